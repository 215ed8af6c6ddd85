"""Average precision, precision-recall curves and correct detections of each class, computed by pycocotools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitdet_plugin.datasets.set_stats import COCO_AREAS
from vitdet_plugin.evaluation.box_errors import Boxes
from vitdet_plugin.evaluation.federated import AnnotatedClasses
from vitdet_plugin.utils.mask_rle import mask_areas
from vitdet_plugin.utils.output import suppress_output

RECALLS = np.linspace(0, 1, 101)  # recall values at which COCO evaluates the precision
SIZES = tuple(name for name, _, _ in COCO_AREAS)
# numbers of detections of a class in an image: mmdet's CocoMetric has the first for mAP, the last for the other values
_DETECTIONS = [100, 300, 1000]
_LVIS_DETECTIONS = 300  # in an image


@dataclass
class AveragePrecision:
    """Results of K classes; NaN where a class has no objects.

    Attributes:
        ap: Average precision over IoU 0.50 to 0.95, at 0.50 and at 0.75, of shape ``(K, 3)``.
        by_size: Average precision over IoU 0.50 to 0.95 of small, medium and large objects, of shape ``(K, 3)``.
        curves: Precision at the recalls 0, 0.01, …, 1 for IoU 0.50 and 0.75, of shape ``(K, 2, 101)``.
        scores: Scores of the detections of each class that are not ignored, K arrays ``(N,)``.
        is_correct: Whether each of these detections is matched with an object at IoU 0.50, K arrays ``(N,)``.
    """

    ap: np.ndarray
    by_size: np.ndarray
    curves: np.ndarray
    scores: list[np.ndarray]
    is_correct: list[np.ndarray]


def average_precision(truth: Sequence[Boxes], found: Sequence[Boxes], classes: int,
                      with_masks: bool = False) -> AveragePrecision:
    """Compute the average precision of boxes or masks as mmdet's ``CocoMetric`` does.

    The average over IoU 0.50 to 0.95 counts the 100 detections of highest score of each class in an image, as COCO
    defines it; those at one IoU and of objects of one size count up to 1000.

    If annotations state the annotated classes of their image, it is that of LVIS (arXiv:1908.03195, section 3): of the
    300 detections of highest score in an image, those of other classes are left out, and unmatched ones of classes that
    are annotated in part are not false positives. The size of an annotated object is the area of its mask, or of its
    box if it has none.

    Args:
        truth: Annotations of each image.
        found: Detections of each image.
        classes: Number of classes K.
        with_masks: Whether to compare masks; objects without a mask are then left out.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    is_federated = any(each.annotated is not None for each in truth)
    for image, (true, predicted) in enumerate(zip(truth, found), 1):
        if true.annotated is not None:
            predicted = predicted.take(_judged(true.annotated, predicted))
        rows = dict(area=object_sizes(true).tolist(), iscrowd=true.ignored.astype(int).tolist())
        annotations += _entries(true, image, with_masks, rows)
        assert predicted.scores is not None
        results += _entries(predicted, image, with_masks, dict(score=predicted.scores.astype(float).tolist()))
    for number, annotation in enumerate(annotations, 1):
        annotation['id'] = number
    if not results:
        return _nothing_found(annotations, classes)
    with suppress_output():
        coco = COCO()
        images = [dict(id=image, height=0, width=0) for image in range(1, len(truth) + 1)]  # sizes are not used
        coco.dataset = dict(images=images, annotations=annotations,
                            categories=[dict(id=label + 1) for label in range(classes)])
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), 'segm' if with_masks else 'bbox')
        evaluation.params.maxDets = [_LVIS_DETECTIONS] if is_federated else _DETECTIONS
        evaluation.evaluate()
        _excuse_unmatched(evaluation, truth)
        evaluation.accumulate()
    precision = evaluation.eval['precision']  # (IoU, recall, class, area, detections)
    precision = np.where(precision < 0, np.nan, precision)
    overall, best = precision[..., 0, -1], precision[..., 0, 0]
    at = [int(np.flatnonzero(np.isclose(evaluation.params.iouThrs, iou))[0]) for iou in (0.5, 0.75)]
    ap = np.stack([best.mean((0, 1)), *(overall[index].mean(0) for index in at)], 1)
    scores, is_correct = _correct_detections(evaluation, at[0], classes)
    return AveragePrecision(ap, precision[..., 1:, -1].mean((0, 1)), overall[at].transpose(2, 0, 1), scores, is_correct)


def _judged(annotated: AnnotatedClasses, found: Boxes) -> np.ndarray:
    """Return the indices of the detections that LVIS evaluates in an image."""
    assert found.scores is not None
    best = np.sort(np.argsort(-found.scores, kind='stable')[:_LVIS_DETECTIONS])
    return best[~annotated.is_unknown(found.labels[best])]


def _excuse_unmatched(evaluation: Any, truth: Sequence[Boxes]) -> None:
    """Ignore the unmatched detections of classes that are annotated in part."""
    for each in evaluation.evalImgs:
        annotated = None if each is None else truth[each['image_id'] - 1].annotated
        if annotated is not None and each['category_id'] - 1 in annotated.partly:
            each['dtIgnore'] = np.asarray(each['dtIgnore'], bool) | (np.asarray(each['dtMatches']) == 0)


def object_sizes(boxes: Boxes) -> np.ndarray:
    """Return the areas (N,) in square pixels of masks, or of boxes where there are none."""
    areas = (boxes.boxes[:, 2:] - boxes.boxes[:, :2]).clip(0).prod(1).astype(float)
    for index, rle in enumerate(boxes.rles or ()):
        if rle is not None:
            areas[index] = mask_areas([rle])[0]
    return areas


def _entries(boxes: Boxes, image: int, with_masks: bool, rows: dict[str, list]) -> list[dict[str, Any]]:
    """Return the objects of an image, those with a mask only if masks are compared, as COCO writes them."""
    corners = boxes.boxes.astype(float).reshape(-1, 4)
    places: list[Any] = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1).tolist()
    key = 'bbox'
    if with_masks:  # without the box, which pycocotools would evaluate instead
        key, places = 'segmentation', list(boxes.rles or [None] * len(boxes))
    return [dict(zip(rows, values), image_id=image, category_id=label + 1, **{key: place})
            for label, place, *values in zip(boxes.labels.tolist(), places, *rows.values()) if place is not None]


def _correct_detections(evaluation: Any, iou: int, classes: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return scores, and whether they are matched at an IoU, of the detections of each class over all sizes."""
    images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    scores, is_correct = [], []
    for label in range(classes):
        start = label * areas * images
        rows = [each for each in evaluation.evalImgs[start:start + images] if each is not None]
        kept = [~np.asarray(each['dtIgnore'][iou], bool) for each in rows]
        scores.append(np.concatenate([np.zeros(0), *(np.asarray(each['dtScores'])[keep]
                                                     for each, keep in zip(rows, kept))]))
        is_correct.append(np.concatenate([np.zeros(0, bool), *(np.asarray(each['dtMatches'][iou])[keep] > 0
                                                               for each, keep in zip(rows, kept))]))
    return scores, is_correct


def _nothing_found(annotations: Sequence[dict], classes: int) -> AveragePrecision:
    counts = np.zeros((len(SIZES), classes), int)
    for each in annotations:
        if not each['iscrowd']:
            for size, (_, low, high) in enumerate(COCO_AREAS):
                counts[size, each['category_id'] - 1] += low <= each['area'] < high
    overall = np.where(counts.sum(0) > 0, 0.0, np.nan)
    curves = np.broadcast_to(overall[:, None, None], (classes, 2, len(RECALLS))).copy()
    return AveragePrecision(np.repeat(overall[:, None], 3, 1), np.where(counts.T > 0, 0.0, np.nan), curves,
                            [np.zeros(0)] * classes, [np.zeros(0, bool)] * classes)
