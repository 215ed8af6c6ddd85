"""Detectors out of ONNX files, run by ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.onnx_session import open_session


class OnnxDetector:
    """A detector out of an ONNX file of :func:`vitdet_plugin.export.onnx.export_onnx`, run by ONNX Runtime.

    Pictures are resized to fit into the exported size, aspect ratio kept, and padded on the right and at the bottom.

    Attributes:
        classes: names of its labels, as far as the file has them.
        shape: height and width of its input in pixels.
    """

    def __init__(self, path: str | Path) -> None:
        self.session, about = open_session(path, 'detector', 'boxes', 'padding')
        self.classes, self.shape = json.loads(about['classes']), tuple(json.loads(about['shape']))
        self._padding = np.array(json.loads(about['padding']), np.float32)[:, None, None]

    def __call__(self, picture: str | Path | np.ndarray, score_thr: float = 0.3) -> dict[str, np.ndarray]:
        """Objects of a picture, best first.

        Args:
            picture: Its file, or an array (H, W, 3) uint8 in BGR order.
            score_thr: Lowest score.

        Returns:
            ``boxes`` (n, 4) x1, y1, x2, y2 in pixels of the picture, ``scores`` (n,), ``labels`` (n,), and of a model
            with masks ``masks`` (n, m, m): probabilities over each box.
        """
        image = picture if isinstance(picture, np.ndarray) else cv2.imread(str(picture), cv2.IMREAD_COLOR)
        if image is None:
            raise UserError(f'{picture} cannot be read as a picture')
        rows, columns = image.shape[:2]
        ratio = min(self.shape[0] / rows, self.shape[1] / columns)
        size = max(round(columns * ratio), 1), max(round(rows * ratio), 1)
        resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
        canvas = np.broadcast_to(self._padding, (3, *self.shape)).copy()
        canvas[:, :size[1], :size[0]] = resized[..., ::-1].transpose(2, 0, 1)
        names = [each.name for each in self.session.get_outputs()]
        found = dict(zip(names, self.session.run(None, {'image': canvas[None]})))
        keep = (found['scores'] > 0) & (found['scores'] >= score_thr)
        found = {name: value[keep] for name, value in found.items()}
        scale = np.array([columns / size[0], rows / size[1]] * 2, np.float32)
        found['boxes'] = (found['boxes'] * scale).clip(0, np.array([columns, rows] * 2, np.float32))
        return found
