"""Results of prediction: plain Python and NumPy objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.polygons import one_polygon
from vitdet_plugin.runtime.results import ClassificationBase, DetectionsBase
from vitdet_plugin.utils.mask_rle import Rle, decode_mask


@dataclass
class Detections(DetectionsBase):
    """Objects detected in one image, sorted by score, in pixels of the original image.

    Attributes:
        path: Image or video file, or URL; None for an image in memory.
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, indices of the class names.
        names: N class names.
        rles: N masks as COCO's compressed RLE (``size``, ``counts``); None for a model without masks.
        frame: Number of the frame of a video, from 0; None for an image.
        shape: Height and width of the image in pixels.
    """

    path: str | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    rles: list[Rle] | None = field(default=None, repr=False)
    frame: int | None = None
    shape: tuple[int, int] = (0, 0)

    _decode = staticmethod(decode_mask)
    _area = staticmethod(mask_utils.area)

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for ``json.dump``; masks are in COCO's compressed RLE."""
        plain = dict(path=self.path, boxes=self.boxes.tolist(), scores=self.scores.tolist(),
                     labels=self.labels.tolist(), names=self.names)
        if self.frame is not None:
            plain['frame'] = self.frame
        if self.rles is not None:
            plain['masks'] = self.rles
        return plain

    def to_yolo(self, scores: bool = False) -> list[str]:
        """Return lines of a YOLO label file, coordinates relative to the image.

        With masks a line is ``label x1 y1 x2 y2 …``, one polygon along the edges of the pixels, in which parts and
        holes are joined by coincident edges; otherwise ``label x y width height`` with the center of the box.

        Args:
            scores: Whether to append the score. Tools that read labels for training expect none.
        """
        height, width = self.shape
        lines = []
        for index, (x1, y1, x2, y2) in enumerate(np.asarray(self.boxes, np.float64)):
            values = np.array([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height])
            if self.rles is not None:
                polygon = one_polygon(decode_mask(self.rles[index]))
                if not len(polygon):  # no pixel of the mask reaches the threshold
                    polygon = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
                values = (polygon / (width, height)).reshape(-1)
            words = [str(int(self.labels[index])), *(f'{value:.7g}' for value in values.clip(0, 1))]
            lines.append(' '.join(words + [f'{self.scores[index]:.6g}'] * scores))
        return lines

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections``, with the class names in ``data['class_name']``.

        Masks are booleans of the whole image, (N, H, W), or None without masks or objects.

        Raises:
            UserError: The package ``supervision`` (extra ``supervision``) is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(f'to_supervision() requires the package {error.name}. Run pip install '
                            '"vitdet-plugin[supervision]".') from error
        return supervision.Detections(
            xyxy=self.boxes.astype(np.float32), mask=self.masks if len(self) else None, confidence=self.scores,
            class_id=self.labels.astype(int), data={'class_name': np.array(self.names, dtype=str)})


@dataclass
class Classification(ClassificationBase):
    """The classes of one image, sorted by score.

    Attributes:
        path: Image or video file, or URL; None for an image in memory.
        scores: (K,) float32 probabilities that sum to 1.
        labels: (K,) int64, indices of the class names.
        names: K class names.
        frame: Number of the frame of a video, from 0; None for an image.
        shape: Height and width of the image in pixels.
    """

    path: str | None
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    frame: int | None = None
    shape: tuple[int, int] = (0, 0)

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return a dictionary for ``json.dump`` with the ``top`` most likely classes, or all."""
        plain = dict(path=self.path, names=self.names[:top], scores=self.scores[:top].tolist(),
                     labels=self.labels[:top].tolist())
        return plain if self.frame is None else {**plain, 'frame': self.frame}


def as_record(result: Detections | Classification, top: int) -> dict[str, Any]:
    """Return a result for ``json.dump``; of a classifier with the ``top`` most likely classes."""
    return result.as_dict(top) if isinstance(result, Classification) else result.as_dict()


def name_of(result: Detections | Classification) -> str:
    """Return the path of a result for messages, with the frame of a video."""
    path = result.path or 'image in memory'
    return path if result.frame is None else f'{path} frame {result.frame}'
