"""Comparison of this project with reference outputs of the official implementations."""

from tests.parity import (  # noqa: F401  registers kinds
    convnext,
    dcnv3,
    internimage,
    vision_lstm,
    vitdet,
    vitdet_train,
    volo,
    yolov5,
)
