"""Error types of detected boxes and the confusion matrix of a detector.

The error types and IoU thresholds follow TIDE (arXiv:2008.08115, section 3.1). Errors are counted at one score
threshold, while TIDE weights them by their effect on AP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitdet_plugin.evaluation.federated import AnnotatedClasses
from vitdet_plugin.utils.mask_rle import Rle

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
CORRECT, IGNORED = 'correct', 'ignored'
ERRORS = {
    'classification': 'IoU at least 0.5 with an object of another class',
    'localization': 'IoU 0.1 to 0.5 with an object of the same class',
    'both': 'IoU 0.1 to 0.5 with an object of another class',
    'duplicate': 'the object is already matched with a box of higher score',
    'background': 'IoU below 0.1 with every object',
    'missed': 'objects without a match, a classification error or a localization error',
}


@dataclass
class Boxes:
    """Boxes of one image.

    Attributes:
        boxes: Corners x1, y1, x2, y2 in pixels, of shape ``(N, 4)``.
        labels: Class indices of shape ``(N,)``.
        scores: Scores of shape ``(N,)``; None for annotations.
        ignored: Mask of shape ``(N,)`` of annotations that are not evaluated (crowds); by default none.
        rles: Masks of the objects as RLE, None for an object without a mask; None if there are no masks at all.
        annotated: Classes that were annotated in the image; None for annotations of all classes.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    ignored: np.ndarray | None = None
    rles: list[Rle | None] | None = None
    annotated: AnnotatedClasses | None = None

    def __post_init__(self) -> None:
        if self.ignored is None:
            self.ignored = np.zeros(len(self.boxes), bool)

    def __len__(self) -> int:
        return len(self.boxes)

    def filter_by_score(self, score: float) -> Boxes:
        """Return the boxes with at least this score, highest score first."""
        order = np.argsort(-self.scores, kind='stable')
        return self.take(order[self.scores[order] >= score])

    def take(self, indices: np.ndarray) -> Boxes:
        """Return the boxes with these indices, in their order."""
        return Boxes(self.boxes[indices], self.labels[indices], None if self.scores is None else self.scores[indices],
                     self.ignored[indices], None if self.rles is None else [self.rles[index] for index in indices],
                     self.annotated)


@dataclass
class Matches:
    """How the boxes of one image are matched with its objects.

    Attributes:
        confusion: Confusion matrix of shape ``(K + 1, K + 1)`` (rows: true class, columns: predicted class, index K:
            background).
        kinds: For each box :data:`CORRECT`, a key of :data:`ERRORS`, or :data:`IGNORED`: in an ignored region, or of a
            class that was not annotated in the image, or only in part.
        is_found: Whether each annotation is matched with a box, of shape ``(N,)``; also True for ignored annotations.
        missed: Number of annotations that are not matched and have no box with a localization error.
    """

    confusion: np.ndarray
    kinds: list[str]
    is_found: np.ndarray
    missed: int

    def errors(self) -> dict[str, int]:
        """Return the number of errors of each type in :data:`ERRORS`."""
        return {**{kind: self.kinds.count(kind) for kind in ERRORS}, 'missed': self.missed}


def match_boxes(truth: Boxes, found: Boxes, classes: int) -> Matches:
    """Match the boxes of one image with its objects.

    In order of decreasing score, each box is matched with the object of its class of highest IoU, if that is at least
    0.5; the remaining boxes are then matched with objects of other classes in the same way. Unmatched boxes with at
    least half of their area in an ignored region are not counted, nor are those of classes that were not annotated in
    the image, or only in part.

    Args:
        truth: Annotations.
        found: Detected boxes, highest score first.
        classes: Number of classes K.
    """
    matrix, kinds = np.zeros((classes + 1, classes + 1), int), []
    counted = np.flatnonzero(~truth.ignored)
    objects, labels = truth.boxes[counted], truth.labels[counted]
    overlap = iou(found.boxes, objects)
    same = found.labels[:, None] == labels[None]
    matches = np.full(len(found), -1)  # index of the matched object of each box
    excused = np.zeros(len(found), bool)
    if truth.annotated is not None:
        excused = truth.annotated.is_unknown(found.labels) | truth.annotated.is_partly(found.labels)
    for allowed in (same, ~same & ~excused[:, None]):
        _match(np.where(allowed, overlap, 0), matches)
    explained = set()  # objects with a badly localized box
    inside = _inside(found.boxes, truth.boxes[truth.ignored]).max(1, initial=0) >= FOREGROUND_IOU
    for box in range(len(found)):
        target = matches[box]
        if target >= 0:
            matrix[labels[target], found.labels[box]] += 1
            kinds.append(CORRECT if labels[target] == found.labels[box] else 'classification')
        elif inside[box] or excused[box]:
            kinds.append(IGNORED)
        else:
            matrix[classes, found.labels[box]] += 1
            kind, localized = _error_type(overlap[box], same[box])
            kinds.append(kind)
            explained |= localized
    unmatched = np.setdiff1d(np.arange(len(objects)), matches)
    np.add.at(matrix[:, classes], labels[unmatched], 1)
    is_found = np.ones(len(truth), bool)
    is_found[counted[unmatched]] = False
    return Matches(matrix, kinds, is_found, sum(index not in explained for index in unmatched.tolist()))


def _match(overlap: np.ndarray, matches: np.ndarray) -> None:
    """Match each unmatched box, highest score first, with the unmatched object of highest IoU; updates ``matches``."""
    for box in range(len(matches)):
        if matches[box] >= 0 or not overlap.shape[1]:
            continue
        free = overlap[box].copy()
        free[matches[matches >= 0]] = 0
        if free.max() >= FOREGROUND_IOU:
            matches[box] = int(free.argmax())


def _error_type(overlap: np.ndarray, same: np.ndarray) -> tuple[str, set[int]]:
    """Return the error type of an unmatched box, and the object of a localization error."""
    best_same, best = (overlap * same).max(initial=0), overlap.max(initial=0)
    if best_same >= FOREGROUND_IOU:
        return 'duplicate', set()
    if best >= FOREGROUND_IOU:  # the object is matched with another box
        return 'classification', set()
    if best_same >= BACKGROUND_IOU:
        return 'localization', {int((overlap * same).argmax())}
    if best >= BACKGROUND_IOU:
        return 'both', set()
    return 'background', set()


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of boxes of shape ``(N, 4)`` and ``(M, 4)``; returns ``(N, M)``."""
    shared = _intersection(a, b)
    union = _area(a)[:, None] + _area(b)[None] - shared
    return shared / np.maximum(union, 1e-9)


def _inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the fraction of each box of ``a`` inside each box of ``b``, as COCO does for crowds."""
    return _intersection(a, b) / np.maximum(_area(a)[:, None], 1e-9)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)
