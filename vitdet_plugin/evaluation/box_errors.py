"""Kinds of errors of detected boxes, and which class is taken for which.

The kinds and thresholds are those of TIDE (Bolya et al., arXiv 2008.08115, Section 3.1), counted at one score
threshold; TIDE itself weighs them by their effect on AP.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1
ERRORS = {
    'classification': 'on an object of another class',
    'localisation': 'class right, IoU with the object only 0.1 to 0.5',
    'both': 'class wrong and IoU 0.1 to 0.5',
    'duplicate': 'on an object that a better box has found',
    'background': 'IoU below 0.1 with every object',
    'missed': 'objects without any of: a match, a box of another class, a badly placed box',
}


@dataclass
class Boxes:
    """Boxes in one picture.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2.
        labels: (N,) class indexes.
        scores: (N,); None for annotations.
        ignored: (N,) annotations that neither count nor hurt (crowds); by default none.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    ignored: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.ignored is None:
            self.ignored = np.zeros(len(self.boxes), bool)

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, score: float) -> Boxes:
        """Those with at least this score, best first."""
        order = np.argsort(-self.scores, kind='stable')
        order = order[self.scores[order] >= score]
        return Boxes(self.boxes[order], self.labels[order], self.scores[order], self.ignored[order])


def match_boxes(truth: Boxes, found: Boxes, classes: int) -> tuple[np.ndarray, dict[str, int]]:
    """Confusion matrix and errors of one picture.

    A box is matched with the object of its class that it overlaps most (IoU >= 0.5), better boxes first; then what is
    left with objects of other classes. Boxes that mostly lie in an ignored region and match nothing are left out.

    Args:
        truth: Annotations.
        found: Boxes, best first.
        classes: K.

    Returns:
        (K + 1, K + 1) counts, rows true, columns predicted, index K the background; and kind to number of errors.
    """
    matrix, errors = np.zeros((classes + 1, classes + 1), int), dict.fromkeys(ERRORS, 0)
    counted = ~truth.ignored
    objects, labels = truth.boxes[counted], truth.labels[counted]
    overlap = iou(found.boxes, objects)
    same = found.labels[:, None] == labels[None]
    of_box = np.full(len(found), -1)
    for allowed in (same, ~same):
        _match(np.where(allowed, overlap, 0), of_box)
    touched = set()
    inside = _inside(found.boxes, truth.boxes[truth.ignored]).max(1, initial=0) >= FOREGROUND_IOU
    for box in range(len(found)):
        target = of_box[box]
        if target >= 0:
            matrix[labels[target], found.labels[box]] += 1
            touched.add(target)
            errors['classification'] += int(labels[target] != found.labels[box])
        elif not inside[box]:
            matrix[classes, found.labels[box]] += 1
            kind, near = _kind(overlap[box], same[box])
            errors[kind] += 1
            touched |= near
    missed = [index for index in range(len(objects)) if index not in of_box]
    for index in missed:
        matrix[labels[index], classes] += 1
    errors['missed'] = sum(index not in touched for index in missed)
    return matrix, errors


def _match(overlap: np.ndarray, of_box: np.ndarray) -> None:
    """Give each unmatched box, best first, the free object that it overlaps most."""
    for box in range(len(of_box)):
        if of_box[box] >= 0 or not overlap.shape[1]:
            continue
        free = overlap[box].copy()
        free[of_box[of_box >= 0]] = 0
        if free.max() >= FOREGROUND_IOU:
            of_box[box] = int(free.argmax())


def _kind(overlap: np.ndarray, same: np.ndarray) -> tuple[str, set[int]]:
    """Kind of error of a box that matched nothing, and the object that it lies on badly."""
    best_same, best = (overlap * same).max(initial=0), overlap.max(initial=0)
    if best_same >= FOREGROUND_IOU:
        return 'duplicate', set()
    if best >= FOREGROUND_IOU:  # its object went to another box
        return 'classification', set()
    if best_same >= BACKGROUND_IOU:
        return 'localisation', {int((overlap * same).argmax())}
    if best >= BACKGROUND_IOU:
        return 'both', set()
    return 'background', set()


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4) and (M, 4) boxes -> (N, M) intersection over union."""
    shared = _intersection(a, b)
    union = _area(a)[:, None] + _area(b)[None] - shared
    return shared / np.maximum(union, 1e-9)


def _inside(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M): share of each box of ``a`` that lies in each of ``b``, as COCO treats crowds."""
    return _intersection(a, b) / np.maximum(_area(a)[:, None], 1e-9)


def _intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(2)


def _area(boxes: np.ndarray) -> np.ndarray:
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)
