"""Accuracy on images of the test set of anything that predicts an image: a model, an exported file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from vitdet_plugin.engine.load_model import LoadedModel, build_dataset, labels_by_name
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.average_precision import average_precision
from vitdet_plugin.evaluation.box_errors import Boxes
from vitdet_plugin.evaluation.detections import boxes_of_instances
from vitdet_plugin.utils.track import track


class TestImages:
    """The first images of the test set of a config, with their annotations.

    Args:
        cfg: The config.
        classes: Class names of the model; of the data set if they are empty.
        is_classifier: Whether the images have one label each, or objects.
        count: Number of images; None for all.
        with_masks: Whether to evaluate masks, too, if the annotations and the predictions have them.

    Raises:
        UserError: The data does not exist, has no annotations, or has other classes than the model.
    """

    __test__ = False  # not a pytest test

    def __init__(self, cfg: Config, classes: list[str], is_classifier: bool, count: int | None = None,
                 with_masks: bool = False) -> None:
        dataset = build_dataset(cfg)
        self.is_classifier = is_classifier
        self._classes = list(dataset.metainfo.get('classes') or classes)
        model: Any = None
        self._label_of = labels_by_name(LoadedModel(model, cfg, classes or None, is_classifier, None), self._classes,
                                        'test')
        infos = [dataset.get_data_info(index) for index in range(min(len(dataset), count or len(dataset)))]
        self._files = [Path(str(info.get('img_path'))) for info in infos]
        if is_classifier:
            self._truth: list[Any] = [np.asarray(info.get('gt_label')) for info in infos]
            if not infos or any(each.size != 1 or each.dtype.kind not in 'iu' for each in self._truth):
                raise UserError('the images of the test set do not have exactly one label each; give another data set')
            return
        self._truth = [boxes_of_instances(info.get('instances', []), _size(info) if with_masks else None)
                       for info in infos]
        if not any(len(each) for each in self._truth):
            raise UserError(f'the {len(infos)} images of the test set have no annotated objects; give another data set')

    def __len__(self) -> int:
        return len(self._files)

    def evaluate(self, predict: Callable[[Path], Any], name: str) -> dict[str, float]:
        """Predict the images one by one.

        Args:
            predict: Returns the probabilities (K,) of an image file, or an object with ``boxes`` (N, 4) in pixels,
                ``scores`` and ``labels`` (N,), and ``rles``: N masks, or None.
            name: Name of the model, shown with the progress.

        Returns:
            Name of the metric -> value from 0 to 1: ``top-1``; or ``box AP`` and, with masks, ``mask AP``, over IoU
            0.50 to 0.95.
        """
        found = [predict(file) for file in track(self._files, len(self), f'images, {name}')]
        if self.is_classifier:
            labels = self._labels(np.array([scores.argmax() for scores in found]))
            return {'top-1': float(np.mean(labels == np.array([int(each) for each in self._truth])))}
        boxes = [Boxes(each.boxes, self._labels(each.labels), each.scores, None, each.rles) for each in found]
        has_masks = all(any(each.rles is not None and any(each.rles) for each in side) for side in (self._truth, boxes))
        return {f'{kind} AP': float(np.nanmean(average_precision(self._truth, boxes, len(self._classes), kind == 'mask'
                                                                 ).ap[:, 0]))
                for kind in ('box', *['mask'] * has_masks)}

    def _labels(self, labels: np.ndarray) -> np.ndarray:
        return labels if self._label_of is None else self._label_of[labels]


def _size(info: dict) -> tuple[int, int] | None:
    height, width = info.get('height'), info.get('width')
    return (int(height), int(width)) if height and width else None
