"""Precision, recall and F1 score of a detector at every score threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

THRESHOLDS = np.linspace(0, 1, 101)


@dataclass
class ThresholdCurve:
    """Quality of the detections with at least a score, for each of :data:`THRESHOLDS`.

    Attributes:
        precision: Of shape ``(101,)``; 1 where no detection is left.
        recall: Of shape ``(101,)``; NaN without objects.
    """

    precision: np.ndarray
    recall: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """F1 score of shape ``(101,)``."""
        total = self.precision + self.recall
        return np.divide(2 * self.precision * self.recall, total, out=np.zeros_like(total), where=total > 0)

    @property
    def best(self) -> int | None:
        """Index of the threshold with the highest F1 score, the middle one of equals; None if F1 is nowhere above 0."""
        f1 = np.nan_to_num(self.f1)
        if not f1.max() > 0:
            return None
        equals = np.flatnonzero(f1 >= f1.max() - 1e-9)
        return int(equals[(len(equals) - 1) // 2])


def threshold_curve(scores: np.ndarray, is_correct: np.ndarray, objects: int) -> ThresholdCurve:
    """Compute precision and recall at every threshold.

    Args:
        scores: Scores of detections, of shape ``(N,)``.
        is_correct: Whether they are matched with an object, of shape ``(N,)``.
        objects: Number of annotated objects.
    """
    order = np.argsort(scores, kind='stable')
    ascending, correct = scores[order], np.concatenate([[0], np.cumsum(is_correct[order])])
    below = np.searchsorted(ascending, THRESHOLDS - 1e-12)
    kept, hits = len(ascending) - below, correct[-1] - correct[below]
    precision = np.divide(hits, kept, out=np.ones(len(THRESHOLDS)), where=kept > 0)
    return ThresholdCurve(precision, hits / objects if objects else np.full(len(THRESHOLDS), np.nan))


def threshold_curves(scores: Sequence[np.ndarray], is_correct: Sequence[np.ndarray],
                     objects: np.ndarray) -> tuple[ThresholdCurve, list[ThresholdCurve]]:
    """Compute the curve over the detections of all classes, and that of each class.

    Args:
        scores: Scores of the detections of each class.
        is_correct: Whether they are matched with an object.
        objects: Number of objects of each class, of shape ``(K,)``.
    """
    empty = np.zeros(0)
    overall = threshold_curve(np.concatenate([empty, *scores]), np.concatenate([empty, *is_correct]).astype(bool),
                              int(objects.sum()))
    return overall, [threshold_curve(*each) for each in zip(scores, is_correct, objects.tolist())]
