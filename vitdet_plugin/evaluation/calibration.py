"""Calibration of a classifier: how often predictions of a confidence are correct."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass
class Calibration:
    """Confidence and accuracy of predictions in bins of equal width; NaN for a bin without predictions.

    Attributes:
        confidence: Mean score of the predicted class, of shape ``(B,)``.
        accuracy: Fraction of correct predictions, of shape ``(B,)``.
        counts: Number of predictions, of shape ``(B,)``.
        error: Expected calibration error: mean difference of confidence and accuracy, weighted by the counts.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    error: float


def calibration(confidence: np.ndarray, is_correct: np.ndarray, bins: int = 10) -> Calibration:
    """Compute the calibration as Guo et al. (arXiv:1706.04599, section 2) do.

    Args:
        confidence: Scores of the predicted classes, of shape ``(N,)`` with N > 0.
        is_correct: Whether the predictions are correct, of shape ``(N,)``.
        bins: Number of bins B between 0 and 1.
    """
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    counts = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, weights=values, minlength=bins) for values in (confidence, is_correct.astype(float))]
    means = [np.divide(each, counts, out=np.full(bins, np.nan), where=counts > 0) for each in sums]
    error = float(np.nansum(np.abs(means[0] - means[1]) * counts) / len(confidence))
    return Calibration(means[0], means[1], counts, error)
