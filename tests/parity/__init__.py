"""Comparison with reference outputs of official implementations; importing this package registers all kinds of cases."""

from tests.parity import (  # noqa: F401  registers kinds
    convnext,
    dcnv3,
    internimage,
    plain_vit,
    vision_lstm,
    vitdet,
    vitdet_train,
    volo,
    yolov5,
)
