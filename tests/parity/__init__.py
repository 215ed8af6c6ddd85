"""Checkers that compare this project with recorded outputs of the official implementations, and their tests."""

from tests.parity import convnext, dcnv3, internimage, vision_lstm, vitdet, volo, yolov5  # noqa: F401  registers kinds
