"""Results: plain Python and NumPy objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .masks import Rle, decode_mask, mask_area


class DetectionsBase:
    """What the results of a detector can do, in terms of their fields, see :class:`Detections`."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    rles: list[Rle] | None
    shape: tuple[int, int]

    _decode = staticmethod(decode_mask)  # an RLE -> the mask (H, W) bool
    _area = staticmethod(mask_area)  # an RLE -> its number of pixels

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def masks(self) -> np.ndarray | None:
        """(N, H, W) bool, decoded at each access; None for a model without masks."""
        if self.rles is None:
            return None
        masks = np.zeros((len(self.rles), *self.shape), bool)
        for mask, rle in zip(masks, self.rles):
            mask[:] = self._decode(rle)
        return masks

    def to_coco(self, image_id: int | str = 0, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Return COCO results: dictionaries with ``bbox`` (x, y, width, height), ``score``, ids and RLE.

        Args:
            image_id: Id of the image in the annotation file.
            category_ids: Id of each class in the annotation file; by default 1, 2, 3, ….
        """
        results = []
        for index, (x1, y1, x2, y2) in enumerate(self.boxes.tolist()):
            label = int(self.labels[index])
            result: dict[str, Any] = dict(
                image_id=image_id, category_id=label + 1 if category_ids is None else int(category_ids[label]),
                bbox=[x1, y1, x2 - x1, y2 - y1], score=float(self.scores[index]))
            if self.rles is not None:
                result.update(segmentation=self.rles[index], area=float(self._area(self.rles[index])))
            results.append(result)
        return results


class ClassificationBase:
    """What the results of a classifier can do, in terms of their fields, see :class:`Classification`."""

    names: list[str]
    scores: np.ndarray

    @property
    def name(self) -> str:
        """Name of the most likely class."""
        return self.names[0]

    @property
    def score(self) -> float:
        """Score of the most likely class."""
        return float(self.scores[0])


@dataclass
class Detections(DetectionsBase):
    """Objects detected in one image, sorted by score, in pixels of the original image.

    Attributes:
        path: The image file; None for an image in memory.
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, indices of the class names.
        names: N class names.
        rles: N masks as COCO's compressed RLE (``size``, ``counts``); None for a model without masks.
        shape: Height and width of the image in pixels.
        image: The image (H, W) or (H, W, C), if it was asked for.
    """

    path: str | None
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    rles: list[Rle] | None = field(default=None, repr=False)
    shape: tuple[int, int] = (0, 0)
    image: np.ndarray | None = field(default=None, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return a dictionary for ``json.dump``; masks are in COCO's compressed RLE."""
        plain: dict[str, Any] = dict(path=self.path, width=self.shape[1], height=self.shape[0],
                                     boxes=self.boxes.tolist(), scores=self.scores.tolist(),
                                     labels=self.labels.tolist(), names=self.names)
        return plain if self.rles is None else {**plain, 'masks': self.rles}


@dataclass
class Classification(ClassificationBase):
    """The classes of one image, sorted by score.

    Attributes:
        path: The image file; None for an image in memory.
        scores: (K,) float32 probabilities that sum to 1.
        labels: (K,) int64, indices of the class names.
        names: K class names.
        shape: Height and width of the image in pixels.
        image: The image (H, W) or (H, W, C), if it was asked for.
    """

    path: str | None
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    shape: tuple[int, int] = (0, 0)
    image: np.ndarray | None = field(default=None, repr=False)

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return names and scores of the most likely classes."""
        return list(zip(self.names[:count], self.scores[:count].tolist()))

    def as_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return a dictionary for ``json.dump`` with the ``top`` most likely classes, or all."""
        return dict(path=self.path, width=self.shape[1], height=self.shape[0], names=self.names[:top],
                    scores=self.scores[:top].tolist(), labels=self.labels[:top].tolist())
