"""Evaluation report of a detector: average precision and curves of each class, confusion matrix, error types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitdet_plugin.engine.load_model import LoadedModel, build_dataset, labels_by_name, predict_dataset
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.box_errors import ERRORS, Boxes, match_boxes
from vitdet_plugin.utils.output import suppress_output
from vitdet_plugin.utils.track import track

RECALLS = np.linspace(0, 1, 101)  # recall values at which COCO evaluates the precision


@dataclass
class DetectorReport:
    """Results of a detector on one split.

    Attributes:
        classes: Names of the K classes.
        ap: COCO average precision over IoU 0.50 to 0.95, at 0.50 and at 0.75, of shape ``(K, 3)``; NaN for a class
            without objects.
        curves: Precision at the recalls 0, 0.01, …, 1 for IoU 0.50 and 0.75, of shape ``(K, 2, 101)``.
        objects: Number of annotated objects that are not ignored, of shape ``(K,)``.
        confusion: Confusion matrix of boxes with at least ``score_thr``, of shape ``(K + 1, K + 1)``. Rows are the true
            classes, the last one the background; columns are the predicted classes, the last one missed objects.
        errors: Number of errors of each type in :data:`vitdet_plugin.evaluation.box_errors.ERRORS`.
        score_thr: Lowest score of boxes in ``confusion`` and ``errors``.
        images: Number of images.
        worst: Images with errors as (file, number of errors), most errors first.
    """

    classes: list[str]
    ap: np.ndarray
    curves: np.ndarray
    objects: np.ndarray
    confusion: np.ndarray
    errors: dict[str, int]
    score_thr: float
    images: int = 0
    worst: list[tuple[str, int]] = field(default_factory=list)

    def mean_ap(self) -> np.ndarray:
        """Return the mean of ``ap`` over the classes with objects, of shape ``(3,)``."""
        return np.nanmean(self.ap, 0) if np.isfinite(self.ap).any() else np.full(3, np.nan)

    def as_dict(self) -> dict[str, Any]:
        """Return the report in a form that can be written as JSON; undefined values are None."""
        def plain(values: np.ndarray) -> list:
            return [None if np.isnan(value) else float(value) for value in values]

        names = ('ap', 'ap50', 'ap75')
        per_class = {name: dict(zip(names, plain(row)), objects=int(count))
                     for name, row, count in zip(self.classes, self.ap, self.objects)}
        return dict(**dict(zip(names, plain(self.mean_ap()))), per_class=per_class, errors=self.errors,
                    score_thr=self.score_thr, classes=self.classes, confusion=self.confusion.tolist(),
                    images=self.images, worst=self.worst)

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.classes, 'mean'))
        lines = [f'{"":<{width}}       AP     AP50     AP75  objects']
        for name, row, count in zip([*self.classes, 'mean'], [*self.ap, self.mean_ap()],
                                    [*self.objects, self.objects.sum()]):
            lines.append(f'{name:<{width}}' + ''.join(f' {value:>8.4f}' for value in row) + f' {count:>8}')
        found = int(np.trace(self.confusion[:-1, :-1]))
        lines += ['', f'boxes with score >= {self.score_thr:g} at IoU 0.5: {found} correct, ' +
                  ', '.join(f'{count} {kind}' for kind, count in self.errors.items())]
        return '\n'.join(lines + [f'  {kind}: {meaning}' for kind, meaning in ERRORS.items()])


def detector_report(loaded: LoadedModel, split: str = 'test', score_thr: float = 0.3) -> DetectorReport:
    """Evaluate the boxes of a detector on a split of its config.

    Args:
        loaded: A detector.
        split: ``'test'``, ``'val'`` or ``'train'``, the ``*_dataloader`` of the config to use, with the test pipeline.
        score_thr: Lowest score of boxes in the confusion matrix and the error types; AP uses all boxes.

    Raises:
        UserError: If the split does not exist, has no annotated objects, or has other classes than the checkpoint.
    """
    cfg = loaded.cfg.copy()
    if split != 'test' and cfg.get('test_dataloader') is not None:
        for_split, for_test = _leaf(cfg[f'{split}_dataloader'].dataset), _leaf(cfg.test_dataloader.dataset)
        for_split.pipeline, for_split.test_mode = for_test.pipeline, True
    dataset = build_dataset(cfg, split)
    classes = list(dataset.metainfo.get('classes') or loaded.classes or ())
    label_of = labels_by_name(loaded, classes, split)
    truth = [boxes_of_instances(dataset.get_data_info(index).get('instances', [])) for index in range(len(dataset))]
    files = [dataset.get_data_info(index).get('img_path', str(index)) for index in range(len(dataset))]
    if not any(len(each) for each in truth):
        raise UserError(f'{split}_dataloader: the dataset has no annotated objects. Use an annotated split.')
    found = []
    for sample in track(predict_dataset(loaded, dataset, batch_size=1), len(dataset), 'images'):
        result = sample.pred_instances
        boxes = result.bboxes.tensor if hasattr(result.bboxes, 'tensor') else result.bboxes
        labels = result.labels.cpu().numpy()
        found.append(Boxes(boxes.cpu().numpy(), labels if label_of is None else label_of[labels],
                           result.scores.cpu().numpy()))
    return build_report(truth, found, classes, files, score_thr)


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
    ap, curves = coco_average_precision(truth, found, len(classes))
    confusion = np.zeros((len(classes) + 1,) * 2, int)
    errors, worst = dict.fromkeys(ERRORS, 0), []
    objects = np.bincount(np.concatenate([each.labels[~each.ignored] for each in truth]), minlength=len(classes))
    for index, (true, predicted) in enumerate(zip(truth, found)):
        matrix, kinds = match_boxes(true, predicted.filter_by_score(score_thr), len(classes))
        confusion += matrix
        for kind, count in kinds.items():
            errors[kind] += count
        worst.append((files[index] if len(files) else str(index), sum(kinds.values())))
    worst.sort(key=lambda each: -each[1])
    return DetectorReport(list(classes), ap, curves, objects, confusion, errors, score_thr, len(truth),
                          [each for each in worst if each[1]])


def coco_average_precision(truth: Sequence[Boxes], found: Sequence[Boxes],
                           classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Compute AP and precision-recall curves of each class with pycocotools.

    Args:
        truth: Annotations of each image.
        found: Detected boxes of each image.
        classes: Number of classes.

    Returns:
        ``ap`` and ``curves`` of :class:`DetectorReport`.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    annotations, results = [], []
    for image, (true, predicted) in enumerate(zip(truth, found), 1):
        for box, label, ignored in zip(_xywh(true.boxes), true.labels.tolist(), true.ignored.tolist()):
            annotations.append(dict(id=len(annotations) + 1, image_id=image, category_id=label + 1, bbox=box,
                                    area=box[2] * box[3], iscrowd=int(ignored)))
        results += [dict(image_id=image, category_id=label + 1, bbox=box, score=score) for box, label, score in
                    zip(_xywh(predicted.boxes), predicted.labels.tolist(), predicted.scores.tolist())]
    if not results:
        has_objects = np.bincount([each['category_id'] - 1 for each in annotations], minlength=classes) > 0
        zeros = np.where(has_objects, 0.0, np.nan)
        return np.repeat(zeros[:, None], 3, 1), zeros[:, None, None].repeat(2, 1).repeat(len(RECALLS), 2)
    with suppress_output():
        coco = COCO()
        coco.dataset = dict(images=[dict(id=image) for image in range(1, len(truth) + 1)], annotations=annotations,
                            categories=[dict(id=label + 1) for label in range(classes)])
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval['precision'][:, :, :, 0, -1]  # (IoU, recall, class), all areas, 100 boxes per image
    precision = np.where(precision < 0, np.nan, precision)
    at = [int(np.flatnonzero(np.isclose(evaluation.params.iouThrs, iou))[0]) for iou in (0.5, 0.75)]
    ap = np.stack([precision.mean((0, 1)), *(precision[index].mean(0) for index in at)], 1)
    return ap, precision[at].transpose(2, 0, 1)


def boxes_of_instances(instances: Sequence[dict]) -> Boxes:
    """Convert the ``instances`` of a dataset of mmdet to :class:`Boxes`."""
    return Boxes(np.array([each['bbox'] for each in instances], float).reshape(-1, 4),
                 np.array([each['bbox_label'] for each in instances], int), None,
                 np.array([bool(each.get('ignore_flag')) for each in instances], bool))


def _xywh(boxes: np.ndarray) -> list[list[float]]:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1).astype(float).tolist()


def _leaf(dataset: Any) -> Any:
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset
