"""Export of models to ONNX, OpenVINO and programs of torch."""
