"""Annotated and detected objects of all images of a split, from a detector or from a file of results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from vitdet_plugin.coco.masks import mask_area, usable_mask
from vitdet_plugin.config.dataset_config import split_datasets
from vitdet_plugin.engine.load_model import LoadedModel, build_dataset, labels_by_name, predict_dataset
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.box_errors import Boxes
from vitdet_plugin.evaluation.federated import annotated_classes
from vitdet_plugin.utils.mask_rle import Rle, encode_annotation, encode_masks
from vitdet_plugin.utils.text_files import read_text
from vitdet_plugin.utils.track import track


@dataclass
class DetectedSplit:
    """Objects of one split; masks are RLE, so that many images fit into memory.

    Attributes:
        name: Name of the split: test, val or train.
        classes: Names of the classes.
        files: Path of each image.
        truth: Annotations of each image.
        found: Detections of each image.
    """

    name: str
    classes: list[str]
    files: list[str]
    truth: list[Boxes]
    found: list[Boxes]

    @property
    def has_masks(self) -> bool:
        """Whether both annotations and detections have masks."""
        return all(any(each.rles is not None and any(each.rles) for each in boxes)
                   for boxes in (self.truth, self.found))


def detect_split(loaded: LoadedModel, split: str) -> DetectedSplit:
    """Detect the objects in all images of a split, one image at a time, with the test pipeline.

    Args:
        loaded: A detector.
        split: ``'test'``, ``'val'`` or ``'train'``, the ``*_dataloader`` of the config to use.

    Raises:
        UserError: If the split does not exist, has no annotated objects, or has other classes than the checkpoint.
    """
    dataset = _open(loaded.cfg, split)
    classes = list(dataset.metainfo.get('classes') or loaded.classes or ())
    label_of = labels_by_name(loaded, classes, split)
    files, truth = _annotations(dataset, split)
    found = [_found(sample, label_of) for sample in
             track(predict_dataset(loaded, dataset, batch_size=1), len(dataset), 'images')]
    return DetectedSplit(split, classes, files, truth, found)


def read_detections(cfg: Config, split: str, file: str | Path) -> DetectedSplit:
    """Read the detections of a split from a COCO file of results, as ``vitdet test --out FILE.json`` writes it.

    Args:
        cfg: Config of a detector.
        split: ``'test'``, ``'val'`` or ``'train'``, the split whose results are in the file.
        file: List of entries with image_id, category_id, bbox, score, and segmentation as RLE if there are masks.

    Raises:
        UserError: The file has another content, or the results of other images or classes.
    """
    dataset = _open(cfg, split)
    files, truth = _annotations(dataset, split)
    inner = dataset
    while hasattr(inner, 'dataset'):
        inner = inner.dataset
    label_of = getattr(inner, 'cat2label', None)
    if label_of is None:
        raise UserError(f'--results {file}: the {split} split is not a data set in COCO format; leave --results out')
    position = {dataset.get_data_info(index).get('img_id'): index for index in range(len(dataset))}
    rows: list[list[dict]] = [[] for _ in files]
    for number, row in enumerate(_read_rows(file), 1):
        if wrong := _wrong_row(row):
            raise UserError(f'{file}, result {number}: {wrong}; write it with vitdet test --out FILE.json')
        if row['image_id'] not in position or row['category_id'] not in label_of:
            key = 'category_id' if row['image_id'] in position else 'image_id'
            raise UserError(f'{file}, result {number}: {key} {row[key]!r} is not in the {split} split; give the '
                            'results of this split')
        rows[position[row['image_id']]].append(row)
    found = [_boxes_of_rows(each, label_of) for each in rows]
    return DetectedSplit(split, list(dataset.metainfo.get('classes') or ()), files, truth, found)


def boxes_of_instances(instances: Sequence[dict], shape: tuple[int, int] | None = None) -> Boxes:
    """Convert the ``instances`` of a data set of mmdet to :class:`Boxes`.

    Args:
        instances: Annotations of an image.
        shape: Height and width of the image in pixels, for the masks; without it they are left out.
    """
    rles = [_rle(each.get('mask'), shape) for each in instances] if shape else []
    return Boxes(np.array([each['bbox'] for each in instances], float).reshape(-1, 4),
                 np.array([each['bbox_label'] for each in instances], int), None,
                 np.array([bool(each.get('ignore_flag')) for each in instances], bool), rles if any(rles) else None)


def _open(cfg: Config, split: str) -> Any:
    """Build the data set of a split with the test pipeline."""
    cfg = cfg.copy()
    if split != 'test' and cfg.get('test_dataloader') is not None and cfg.get(f'{split}_dataloader') is not None:
        _, tested = next(split_datasets(cfg, 'test'))
        for _, each in split_datasets(cfg, split):
            each.pipeline, each.test_mode = tested.pipeline, True
    return build_dataset(cfg, split)


def _annotations(dataset: Any, split: str) -> tuple[list[str], list[Boxes]]:
    files, truth = [], []
    classes_of = annotated_classes(dataset)
    for index in range(len(dataset)):
        info = dataset.get_data_info(index)
        shape = (info['height'], info['width']) if info.get('height') and info.get('width') else None
        truth.append(boxes_of_instances(info.get('instances', []), shape))
        truth[-1].annotated = classes_of.get(info.get('img_id'))
        files.append(str(info.get('img_path', index)))
    if not any(len(each) for each in truth):
        raise UserError(f'{split}_dataloader: the dataset has no annotated objects. Use an annotated split.')
    return files, truth


def _rle(mask: Any, shape: tuple[int, int]) -> Rle | None:
    """Return a mask of an annotation, polygons or RLE, as compressed RLE; None if there is none for this shape."""
    mask = usable_mask(mask)[0]
    if not mask or not mask_area(mask) or isinstance(mask, dict) and list(mask['size']) != [int(x) for x in shape]:
        return None
    return encode_annotation(mask, shape)


def _found(sample: Any, label_of: np.ndarray | None) -> Boxes:
    """Convert the predictions of a data sample of mmdet."""
    result = sample.pred_instances
    boxes = getattr(result.bboxes, 'tensor', result.bboxes)
    labels, masks = result.labels.cpu().numpy(), result.get('masks')
    if masks is not None and not isinstance(masks, list):
        masks = [encode_masks(mask[None].cpu().numpy())[0] for mask in masks]
    return Boxes(boxes.cpu().numpy(), labels if label_of is None else label_of[labels], result.scores.cpu().numpy(),
                 None, masks)


def _read_rows(file: str | Path) -> Iterable[Any]:
    if str(file).endswith(('.pkl', '.pickle')):
        raise UserError(f'{file} has the format of mmengine; write COCO results with vitdet test --out FILE.json')
    try:
        rows = json.loads(read_text(Path(file)))
    except ValueError as error:
        raise UserError(f'{file} is not JSON ({error}); write it with vitdet test --out FILE.json') from error
    if not isinstance(rows, list):
        raise UserError(f'{file} is not a list of COCO results; write it with vitdet test --out FILE.json')
    return rows


def _wrong_row(row: Any) -> str:
    """Return what is wrong with a COCO result, or an empty text."""
    if not isinstance(row, dict):
        return 'not an object'
    checks = dict(image_id=lambda value: type(value) in (int, str), category_id=lambda value: type(value) is int,
                  score=_is_number, bbox=_is_box)
    for key, is_right in checks.items():
        if not is_right(row.get(key)):
            return f'{key} is {row[key]!r:.50}' if key in row else f'{key} is missing'
    mask = row.get('segmentation')
    return '' if mask is None or isinstance(mask, dict) and mask_area(mask) is not None else 'segmentation is not RLE'


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _boxes_of_rows(rows: Sequence[dict], label_of: dict[int, int]) -> Boxes:
    boxes = np.array([row['bbox'] for row in rows], float).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    masks = [row.get('segmentation') for row in rows]
    rles = [None if mask is None else encode_annotation(mask) for mask in masks]
    return Boxes(boxes, np.array([label_of[row['category_id']] for row in rows], int),
                 np.array([row['score'] for row in rows], float), None, rles if any(rles) else None)
