"""What a model finds in one input, before it is a result for the user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitdet_plugin.utils.mask_rle import Rle


@dataclass
class Found:
    """Objects in pixels of the image.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2.
        scores: (N,) float32.
        labels: (N,) int64.
        rles: N masks; None for a model without masks.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    rles: list[Rle] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, indices: np.ndarray) -> Found:
        """Return the objects of these indices (M,), in their order."""
        rles = None if self.rles is None else [self.rles[index] for index in indices]
        return Found(self.boxes[indices], self.scores[indices], self.labels[indices], rles)

    def best_first(self, score_thr: float) -> Found:
        """Return the objects with at least this score, sorted by score."""
        order = np.argsort(-self.scores, kind='stable')
        return self.take(order[self.scores[order] >= score_thr])
