"""Hook that draws predictions and ground truth during testing (``vitdet test --show-dir DIR``)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from vitdet_plugin.utils.distinct_names import distinct_names
from vitdet_plugin.utils.mask_rle import decode_mask, encode_annotation
from vitdet_plugin.utils.paths import check_inputs_are_kept
from vitdet_plugin.visualization.draw import Objects, draw_predictions_and_ground_truth, write_figure
from vitdet_plugin.visualization.draw_classes import draw_classification


@HOOKS.register_module(name=['PredictionImageHook', 'PredictionPictureHook'])  # language: ok (former name)
class PredictionImageHook(Hook):
    """Draw predictions and ground truth of a test run, one figure per image.

    Figures of a detector are written to ``<out_dir>/<image name>.jpg``; those of a classifier keep the subfolders of
    the dataset. Images of equal names get their folder, suffix or a number in the name. The ground truth of a detector
    is read from the annotation file, even if the test pipeline does not load annotations.

    Args:
        out_dir: Output folder.
        score_thr: Lowest score of boxes to draw.
        max_images: Maximum number of images, evenly spaced over the dataset; 0 draws all.
    """

    priority = 'LOW'

    def __init__(self, out_dir: str, score_thr: float = 0.3, max_images: int = 50,
                 max_pictures: int | None = None) -> None:  # language: ok (former name of max_images)
        self.out_dir, self.score_thr = Path(out_dir), score_thr
        self.max_images = max_images if max_pictures is None else max_pictures  # language: ok
        self._index_of: dict[Any, int] | None = None
        self._known: dict[str, Path] | None = None

    def before_test(self, runner) -> None:
        """Create the output folder.

        Raises:
            UserError: A figure would replace an image of the dataset.
        """
        figures = self._figures(runner.test_dataloader.dataset)
        check_inputs_are_kept(f'--show-dir {self.out_dir}', figures.values(), figures)
        self.out_dir.mkdir(parents=True, exist_ok=True)

    def after_test_iter(self, runner, batch_idx: int, data_batch=None, outputs: Sequence | None = None) -> None:
        """Draw the selected images of a batch."""
        dataset = runner.test_dataloader.dataset
        step = max(1, -(-len(dataset) // self.max_images)) if self.max_images else 1
        first = batch_idx * (runner.test_dataloader.batch_size or 1)
        for offset, sample in enumerate(outputs or ()):
            position = (first + offset) * get_world_size() + get_rank()  # order of mmengine's DefaultSampler
            if position % step == 0 and position < len(dataset):
                self._write(dataset, sample, runner.visualizer.dataset_meta or dataset.metainfo)

    def _write(self, dataset, sample, meta: dict) -> None:
        image = mmcv.imread(sample.img_path, channel_order='rgb')
        if 'pred_score' in sample:
            self._write_classification(dataset, sample, image, meta.get('classes') or ())
            return
        figure = draw_predictions_and_ground_truth(
            image, predicted_objects(sample, image.shape[:2]), self._truth(dataset, sample, image.shape[:2]),
            meta.get('classes') or (), self.score_thr)
        write_figure(self._path(dataset, str(sample.img_path)), figure)

    def _write_classification(self, dataset, sample, image: np.ndarray, classes: Sequence[str]) -> None:
        truth = int(sample.gt_label) if 'gt_label' in sample else None
        figure = draw_classification(image, sample.pred_score.float().cpu().numpy(), classes, truth)
        write_figure(self._path(dataset, str(sample.img_path)), figure)

    def _path(self, dataset, path: str) -> Path:
        return self._figures(dataset).get(path, self.out_dir / f'{Path(path).stem}.jpg')

    def _figures(self, dataset) -> dict[str, Path]:
        """Return the figure of each image, the same in every process and different for every image of the dataset."""
        if self._known is None:
            paths = [str(info['img_path']) for info in map(dataset.get_data_info, range(len(dataset)))] if hasattr(
                dataset, 'get_data_info') else []
            paths = list(dict.fromkeys(paths))
            root = getattr(dataset, 'img_prefix', None)  # of classifiers
            self._known = {path: self.out_dir / f'{name}.jpg' for path, name in zip(paths, distinct_names(paths, root))}
        return self._known

    def _truth(self, dataset, sample, shape: tuple) -> Objects | None:
        if not hasattr(dataset, 'get_data_info'):
            return None
        if self._index_of is None:
            self._index_of = {dataset.get_data_info(index).get('img_id'): index for index in range(len(dataset))}
        index = self._index_of.get(sample.img_id)
        return None if index is None else annotated_objects(dataset.get_data_info(index).get('instances', []), shape)


def predicted_objects(sample, shape: tuple[int, int]) -> Objects:
    """Convert ``pred_instances`` of a data sample for drawing.

    Args:
        sample: mmdet's ``DetDataSample`` with predictions in pixels of the original image.
        shape: Height and width of the original image.
    """
    found = sample.pred_instances
    masks = found.get('masks')
    if masks is not None:
        masks = masks.cpu().numpy() if isinstance(masks, torch.Tensor) else list(map(decode_mask, masks))
        masks = np.asarray(masks, bool).reshape(-1, *shape)
    boxes = getattr(found.bboxes, 'tensor', found.bboxes)
    return Objects(boxes.cpu().numpy(), found.labels.cpu().numpy(), found.scores.cpu().numpy(), masks)


def annotated_objects(instances: Sequence[dict], shape: tuple[int, int]) -> Objects:
    """Convert the ``instances`` of a dataset of mmdet for drawing; ignored instances (crowds) are omitted.

    Args:
        instances: Dicts with ``bbox`` (x1, y1, x2, y2), ``bbox_label`` and optionally ``mask`` (polygons or RLE).
        shape: Height and width of the image.
    """
    kept = [each for each in instances if not each.get('ignore_flag')]
    masks = None
    if kept and all(each.get('mask') for each in kept):
        masks = np.stack([decode_mask(encode_annotation(each['mask'], shape)) for each in kept])
    return Objects(np.array([each['bbox'] for each in kept], float).reshape(-1, 4),
                   np.array([each['bbox_label'] for each in kept], int), None, masks)


