"""Comparison of this project with reference outputs of the official implementations."""

from tests.parity import convnext, dcnv3, internimage, vision_lstm, vitdet, volo, yolov5  # noqa: F401  registers kinds
