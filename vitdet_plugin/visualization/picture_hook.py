"""Pictures of predictions beside ground truth while testing: ``vitdet test --show-dir DIR``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import mmcv
import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from pycocotools import mask as mask_utils

from vitdet_plugin.visualization.draw import Objects, draw_predictions_beside_truth
from vitdet_plugin.visualization.draw_classes import draw_classification


@HOOKS.register_module()
class PredictionPictureHook(Hook):
    """Write pictures of a test run, ``<name of the image>.jpg`` each; a classifier's in folders as the data's.

    Ground truth of detectors comes from the annotation file, whether the test pipeline loads annotations or not.

    Args:
        out_dir: Folder to write to.
        score_thr: Lowest score that is drawn.
        max_pictures: At most so many, evenly spaced over the data set; 0 means all.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str, score_thr: float = 0.3, max_pictures: int = 50):
        self.out_dir, self.score_thr, self.max_pictures = Path(out_dir), score_thr, max_pictures
        self._index_of: dict[Any, int] | None = None

    def before_test(self, runner) -> None:
        self.out_dir.mkdir(parents=True, exist_ok=True)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        dataset = runner.test_dataloader.dataset
        step = max(1, -(-len(dataset) // self.max_pictures)) if self.max_pictures else 1
        first = batch_idx * (runner.test_dataloader.batch_size or 1)
        for offset, sample in enumerate(outputs or ()):
            position = (first + offset) * get_world_size() + get_rank()  # as mmengine's sampler deals images out
            if position % step == 0 and position < len(dataset):
                self._write(dataset, sample, runner.visualizer.dataset_meta or dataset.metainfo)

    def _write(self, dataset, sample, meta: dict) -> None:
        image = mmcv.imread(sample.img_path, channel_order='rgb')
        if 'pred_score' in sample:
            self._write_classification(dataset, sample, image, meta.get('classes') or ())
            return
        figure = draw_predictions_beside_truth(
            image, predicted_objects(sample, image.shape[:2]), self._truth(dataset, sample, image.shape[:2]),
            meta.get('classes') or (), self.score_thr)
        path = self.out_dir / f'{Path(sample.img_path).stem}.jpg'
        cv2.imwrite(str(path), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])

    def _write_classification(self, dataset, sample, image: np.ndarray, classes: Sequence[str]) -> None:
        truth = int(sample.gt_label) if 'gt_label' in sample else None
        figure = draw_classification(image, sample.pred_score.float().cpu().numpy(), classes, truth)
        path = Path(sample.img_path)  # class folders may hold files of equal names, so the folders are kept
        root = Path(getattr(dataset, 'img_prefix', path.parent))
        inside = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        target = (self.out_dir / inside).with_suffix('.jpg')
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), cv2.cvtColor(figure, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])

    def _truth(self, dataset, sample, shape: tuple) -> Objects | None:
        if not hasattr(dataset, 'get_data_info'):
            return None
        if self._index_of is None:
            self._index_of = {dataset.get_data_info(index).get('img_id'): index for index in range(len(dataset))}
        index = self._index_of.get(sample.img_id)
        return None if index is None else annotated_objects(dataset.get_data_info(index).get('instances', []), shape)


def predicted_objects(sample, shape: tuple[int, int]) -> Objects:
    """``pred_instances`` of a data sample for drawing.

    Args:
        sample: mmdet's DetDataSample, rescaled to the original picture.
        shape: Height and width of that picture.
    """
    found = sample.pred_instances
    masks = found.get('masks')
    if masks is not None:
        masks = masks.cpu().numpy() if isinstance(masks, torch.Tensor) else [_decode(mask, shape) for mask in masks]
        masks = np.asarray(masks, bool).reshape(-1, *shape)
    boxes = found.bboxes.tensor if hasattr(found.bboxes, 'tensor') else found.bboxes
    return Objects(boxes.cpu().numpy(), found.labels.cpu().numpy(), found.scores.cpu().numpy(), masks)


def annotated_objects(instances: Sequence[dict], shape: tuple[int, int]) -> Objects:
    """Ground truth for drawing from the ``instances`` of mmdet's data sets; crowd regions are left out.

    Args:
        instances: Dicts with ``bbox`` (x1, y1, x2, y2), ``bbox_label`` and perhaps ``mask`` (polygons or RLE).
        shape: Height and width of the picture.
    """
    kept = [each for each in instances if not each.get('ignore_flag')]
    masks = None
    if kept and all(each.get('mask') for each in kept):
        masks = np.stack([_decode(each['mask'], shape) for each in kept])
    return Objects(np.array([each['bbox'] for each in kept], float).reshape(-1, 4),
                   np.array([each['bbox_label'] for each in kept], int), None, masks)


def _decode(mask: Any, shape: tuple[int, int]) -> np.ndarray:
    """Polygons or (un)compressed RLE -> (H, W) bool."""
    if isinstance(mask, list):
        mask = mask_utils.merge(mask_utils.frPyObjects(mask, *shape))
    elif isinstance(mask['counts'], list):
        mask = mask_utils.frPyObjects(mask, *mask['size'])
    return mask_utils.decode(mask).astype(bool)


