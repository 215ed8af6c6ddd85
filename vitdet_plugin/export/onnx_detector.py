"""Detectors loaded from ONNX files."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import read_image, to_planes
from vitdet_plugin.export.onnx_session import open_session


class OnnxDetector:
    """Detector loaded from an ONNX file written by :func:`vitdet_plugin.export.onnx.export_onnx`.

    Images are resized to the exported size with the aspect ratio kept and padded on the right and at the bottom.

    Args:
        path: The ONNX file.

    Attributes:
        classes: Names of the classes; empty if unknown.
        shape: Height and width of the input in pixels.
        channels: Number of channels of the input.

    Raises:
        UserError: If the file does not exist or was not written by ``export_onnx`` for a detector.
    """

    def __init__(self, path: str | Path) -> None:
        self.session, about = open_session(path, 'detector', 'boxes', 'padding')
        self.classes, self.shape = json.loads(about['classes']), tuple(json.loads(about['shape']))
        self.channels = self.session.get_inputs()[0].shape[1]
        self._padding = np.array(json.loads(about['padding']), np.float32)[:, None, None]

    def __call__(self, source: str | Path | np.ndarray, score_thr: float = 0.3) -> dict[str, np.ndarray]:
        """Detect objects in an image.

        Args:
            source: Image file, or an array of shape ``(H, W, C)`` with the model's number of channels, uint8; BGR if
                there are 3.
            score_thr: Lowest score of detections.

        Returns:
            Detections, highest score first: ``boxes`` of shape ``(N, 4)`` (x1, y1, x2, y2 in pixels of the image),
            ``scores`` of shape ``(N,)`` and ``labels`` of shape ``(N,)``; for a model with masks also ``masks`` of
            shape ``(N, m, m)``, the probabilities over each box.

        Raises:
            UserError: If the image cannot be read, or has another number of channels.
        """
        image = source if isinstance(source, np.ndarray) else read_image(source, self.channels)
        if image is None:
            raise UserError(f'{source} is not a readable image of {self.channels} channels. Replace it or pass another '
                            'file.')
        image = image.reshape(*image.shape[:2], -1)
        if image.shape[2] != self.channels:
            raise UserError(f'the image array has {image.shape[2]} channels, the model requires {self.channels}.')
        rows, columns = image.shape[:2]
        ratio = min(self.shape[0] / rows, self.shape[1] / columns)
        size = max(round(columns * ratio), 1), max(round(rows * ratio), 1)
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
        canvas = np.broadcast_to(self._padding, (self.channels, *self.shape)).copy()
        canvas[:, :size[1], :size[0]] = to_planes(resized.reshape(*resized.shape[:2], -1))
        names = [each.name for each in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(None, {'image': canvas[None]})))
        if found['boxes'].ndim == 3:  # since format 2 all outputs have a batch dimension
            found = {name: value[0] for name, value in found.items()}
        keep = (found['scores'] > 0) & (found['scores'] >= score_thr)
        found = {name: value[keep] for name, value in found.items()}
        scale = np.array([columns / size[0], rows / size[1]] * 2, np.float32)
        found['boxes'] = (found['boxes'] * scale).clip(0, np.array([columns, rows] * 2, np.float32))
        return found
