"""vitdet_100e under its name in the model zoo: ViTDet-B, Mask R-CNN, COCO, 100 epochs, 8 GPUs x 8 images."""

_base_ = '../vitdet_100e.py'
