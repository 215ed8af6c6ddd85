"""Int8 files: static quantization of ONNX files with calibration images."""

from __future__ import annotations

import contextlib
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitdet_plugin.export.graph import find_trunk
from vitdet_plugin.export.onnx_file import read_metadata, save_model

_OPS = ('Conv', 'Gemm', 'MatMul')


def quantize(source: Path, target: Path, images: Sequence[np.ndarray], metadata: dict[str, str],
             method: str = 'MinMax') -> int:
    """Write a copy of an ONNX file whose layers multiply 8-bit numbers, in the QDQ form.

    Weights are int8 with a scale for each output channel, activations uint8 with a scale for each tensor. Attention
    scores, softmax, normalization, the first and the last layers, and post-processing stay in float32.

    Args:
        source: A float32 file of :func:`vitdet_plugin.export.onnx.export_onnx`.
        target: File to write; large weights are written next to it, as ``target`` + '.data'.
        images: Calibration images as the file expects them, each of shape (1, C, H, W).
        metadata: Entries to add to the file's metadata.
        method: Name of a ``CalibrationMethod`` of ONNX Runtime.

    Returns:
        The number of layers in 8 bits.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    with tempfile.TemporaryDirectory(prefix='vitdet-int8-') as folder, _quiet():
        plain, quantized = Path(folder) / 'plain.onnx', Path(folder) / 'int8.onnx'
        is_large = source.with_name(f'{source.name}.data').is_file()
        quant_pre_process(str(source), str(plain), skip_symbolic_shape=True, skip_optimization=is_large,
                          save_as_external_data=is_large, all_tensors_to_one_file=True)
        model = onnx.load(str(plain), load_external_data=False)
        layers = find_trunk(model).layers
        names = [node.name for node in model.graph.node if node.name in layers and node.op_type in _OPS]
        quantize_static(str(plain), str(quantized), _Images(images), quant_format=QuantFormat.QDQ, per_channel=True,
                        op_types_to_quantize=list(_OPS), nodes_to_quantize=names, activation_type=QuantType.QUInt8,
                        weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod[method],
                        use_external_data_format=is_large,
                        extra_options=dict(OpTypesToExcludeOutputQuantization=['Gemm', 'MatMul']))
        result = onnx.load(str(quantized))
        onnx.helper.set_model_props(result, {**read_metadata(source), **metadata})
        save_model(result, target)
    return len(names)


class _Images:
    """The reader of calibration data that ONNX Runtime expects."""

    def __init__(self, images: Sequence[np.ndarray]) -> None:
        self._images = images
        self._rest = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._rest, None)
        return None if image is None else {'image': image}

    def rewind(self) -> None:
        self._rest = iter(self._images)

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._rest = iter(self._images[start_index:end_index])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of ONNX Runtime's tools, which print them by the root logger."""
    root: Any = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        root.setLevel(before)
