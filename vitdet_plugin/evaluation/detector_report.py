"""Evaluation report of a detector: average precision and curves of each class, confusion matrix, error types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitdet_plugin.datasets.set_stats import COCO_AREAS
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.evaluation.average_precision import (
    RECALLS,
    SIZES,
    AveragePrecision,
    average_precision,
    object_sizes,
)
from vitdet_plugin.evaluation.box_errors import ERRORS, IGNORED, Boxes, match_boxes
from vitdet_plugin.evaluation.detections import DetectedSplit, detect_split
from vitdet_plugin.evaluation.score_threshold import THRESHOLDS, ThresholdCurve, threshold_curves

UNJUDGED = 'their class is not annotated in the image, or only in part, as in LVIS, whose AP this is'
__all__ = ['RECALLS', 'UNJUDGED', 'DetectorReport', 'build_report', 'detector_report', 'report_of_split']


@dataclass
class DetectorReport:
    """Results of a detector on one split.

    Attributes:
        classes: Names of the K classes.
        boxes: Average precision of the boxes.
        masks: Average precision of the masks; None without masks.
        objects: Number of annotated objects that are not ignored, of shape ``(K,)``.
        objects_of_size: Number of these that are small, medium and large, of shape ``(K, 3)``.
        confusion: Confusion matrix of boxes with at least ``score_thr``, of shape ``(K + 1, K + 1)``. Rows are the true
            classes, the last one the background; columns are the predicted classes, the last one no box.
        errors: Number of errors of each type in :data:`vitdet_plugin.evaluation.box_errors.ERRORS`.
        score_thr: Lowest score of boxes in ``confusion`` and ``errors``.
        images: Number of images.
        worst: Images with errors as (file, number of errors), most errors first.
        image_errors: Number of errors of each type in each image, in the order of the split.
        unjudged: Number of boxes with at least ``score_thr`` that are neither correct nor wrong, since their class is
            not annotated in the image, or only in part (LVIS); None for annotations of all classes.
        thresholds: Precision, recall and F1 score of the boxes of all classes at each score threshold.
        class_thresholds: The same for each class.
    """

    classes: list[str]
    boxes: AveragePrecision
    masks: AveragePrecision | None
    objects: np.ndarray
    objects_of_size: np.ndarray
    confusion: np.ndarray
    errors: dict[str, int]
    score_thr: float
    images: int = 0
    worst: list[tuple[str, int]] = field(default_factory=list)
    image_errors: list[dict[str, int]] = field(default_factory=list)
    unjudged: int | None = None

    def __post_init__(self) -> None:
        self.thresholds: ThresholdCurve
        self.class_thresholds: list[ThresholdCurve]
        self.thresholds, self.class_thresholds = threshold_curves(self.boxes.scores, self.boxes.is_correct,
                                                                  self.objects)

    @property
    def ap(self) -> np.ndarray:
        """Average precision of boxes over IoU 0.50 to 0.95, at 0.50 and at 0.75, of shape ``(K, 3)``; NaN for a class
        without objects.
        """
        return self.boxes.ap

    @property
    def curves(self) -> np.ndarray:
        """Precision of boxes at the recalls 0, 0.01, …, 1 for IoU 0.50 and 0.75, of shape ``(K, 2, 101)``."""
        return self.boxes.curves

    @property
    def correct(self) -> int:
        """Number of boxes with at least ``score_thr`` that are matched with an object of their class."""
        return int(np.trace(self.confusion[:-1, :-1]))

    def mean_ap(self) -> np.ndarray:
        """Return the mean of ``ap`` over the classes with objects, of shape ``(3,)``."""
        return mean_of_classes(self.ap)

    def as_dict(self) -> dict[str, Any]:
        """Return the report in a form that can be written as JSON; undefined values are None."""
        names = ('ap', 'ap50', 'ap75')
        per_class = {name: dict(zip(names, _plain(row)), objects=int(count), **_by_size(sizes), **_best(curve))
                     for name, row, count, sizes, curve in zip(self.classes, self.ap, self.objects, self.boxes.by_size,
                                                               self.class_thresholds)}
        for name, row in zip(self.classes, () if self.masks is None else self.masks.ap):
            per_class[name].update(dict(zip(('mask_ap', 'mask_ap50', 'mask_ap75'), _plain(row))))
        mask_ap = {} if self.masks is None else dict(zip(('mask_ap', 'mask_ap50', 'mask_ap75'),
                                                         _plain(mean_of_classes(self.masks.ap))))
        return dict(**dict(zip(names, _plain(self.mean_ap()))), **_by_size(mean_of_classes(self.boxes.by_size)),
                    **mask_ap, **_best(self.thresholds), per_class=per_class, errors=self.errors,
                    score_thr=self.score_thr, classes=self.classes, confusion=self.confusion.tolist(),
                    images=self.images, worst=self.worst,
                    **({} if self.unjudged is None else dict(unjudged=self.unjudged)))

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.classes, 'mean'))
        lines = [f'{"":<{width}}       AP     AP50     AP75  objects']
        for name, row, count in zip([*self.classes, 'mean'], [*self.ap, self.mean_ap()],
                                    [*self.objects, self.objects.sum()]):
            lines.append(f'{name:<{width}}' + ''.join(f' {value:>8.4f}' for value in row) + f' {count:>8}')
        lines += ['', f'boxes with score >= {self.score_thr:g} at IoU 0.5: {self.correct} correct, ' +
                  ', '.join(f'{count} {kind}' for kind, count in self.errors.items())]
        lines += [f'  {kind}: {meaning}' for kind, meaning in ERRORS.items()]
        if self.unjudged is not None:
            lines.append(f'  {self.unjudged} more are not judged: {UNJUDGED}')
        if (best := self.thresholds.best) is not None:
            lines.append(f'highest F1 {self.thresholds.f1[best]:.4f} at score {THRESHOLDS[best]:.2f}: precision '
                         f'{self.thresholds.precision[best]:.4f}, recall {self.thresholds.recall[best]:.4f}')
        return '\n'.join(lines)


def detector_report(loaded: LoadedModel, split: str = 'test', score_thr: float = 0.3) -> DetectorReport:
    """Evaluate a detector on a split of its config.

    Args:
        loaded: A detector.
        split: ``'test'``, ``'val'`` or ``'train'``, the ``*_dataloader`` of the config to use, with the test pipeline.
        score_thr: Lowest score of boxes in the confusion matrix and the error types; AP uses all boxes.

    Raises:
        UserError: If the split does not exist, has no annotated objects, or has other classes than the checkpoint.
    """
    return report_of_split(detect_split(loaded, split), score_thr)


def report_of_split(split: DetectedSplit, score_thr: float = 0.3) -> DetectorReport:
    """Build a report from the objects of a split; see :func:`detector_report`."""
    return build_report(split.truth, split.found, split.classes, split.files, score_thr)


def build_report(truth: Sequence[Boxes], found: Sequence[Boxes], classes: Sequence[str], files: Sequence[str] = (),
                 score_thr: float = 0.3) -> DetectorReport:
    """Build a report from annotated and detected boxes.

    Args:
        truth: Annotations of each image.
        found: Detected boxes of each image.
        classes: Names of the classes.
        files: Names of the images; their indices by default.
        score_thr: Lowest score of boxes in the confusion matrix and the error types.
    """
    with_masks = all(any(each.rles is not None for each in boxes) for boxes in (truth, found))
    confusion = np.zeros((len(classes) + 1,) * 2, int)
    image_errors, worst = [], []
    unjudged = 0 if any(each.annotated is not None for each in truth) else None
    for index, (true, predicted) in enumerate(zip(truth, found)):
        matches = match_boxes(true, predicted.filter_by_score(score_thr), len(classes))
        kinds = matches.errors()
        confusion += matches.confusion
        image_errors.append(kinds)
        if unjudged is not None:
            unjudged += matches.kinds.count(IGNORED)
        worst.append((files[index] if len(files) else str(index), sum(kinds.values())))
    worst.sort(key=lambda each: -each[1])
    errors = {kind: sum(each[kind] for each in image_errors) for kind in ERRORS}
    of_size = _count_sizes(truth, len(classes))
    return DetectorReport(list(classes), average_precision(truth, found, len(classes)),
                          average_precision(truth, found, len(classes), True) if with_masks else None,
                          of_size.sum(1), of_size, confusion, errors, score_thr, len(truth),
                          [each for each in worst if each[1]], image_errors, unjudged)


def mean_of_classes(values: np.ndarray) -> np.ndarray:
    """Return the mean (N,) of values (K, N) over the classes where they are defined; NaN where they are nowhere."""
    counts = np.isfinite(values).sum(0)
    return np.divide(np.nansum(values, 0), counts, out=np.full(values.shape[1], np.nan), where=counts > 0)


def _count_sizes(truth: Sequence[Boxes], classes: int) -> np.ndarray:
    """Count the small, medium and large objects of each class, of shape ``(K, 3)``."""
    counts = np.zeros((classes, len(SIZES)), int)
    for each in truth:
        counted, areas = ~each.ignored, object_sizes(each)
        for size, (_, low, high) in enumerate(COCO_AREAS):
            chosen = counted & (areas >= low) & (areas < high)
            counts[:, size] += np.bincount(each.labels[chosen], minlength=classes)
    return counts


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values]


def _by_size(values: np.ndarray) -> dict[str, float | None]:
    return dict(zip([f'ap_{size}' for size in SIZES], _plain(values)))


def _best(curve: ThresholdCurve) -> dict[str, float | None]:
    best = curve.best
    return dict(best_f1=None if best is None else float(curve.f1[best]),
                best_score_thr=None if best is None else float(THRESHOLDS[best]))
