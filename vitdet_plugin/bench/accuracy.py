"""Accuracy of a backend on images of the test set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from vitdet_plugin.bench.runners import Runner
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

    Raises:
        UserError: The data does not exist, has no annotations, or has other classes than the model.
    """

    __test__ = False  # not a pytest test

    def __init__(self, cfg: Config, classes: list[str], is_classifier: bool, count: int | None = None) -> None:
        dataset = build_dataset(cfg)
        self.is_classifier = is_classifier
        self.metric = 'top-1' if is_classifier else 'AP'
        self._classes = list(dataset.metainfo.get('classes') or classes)
        model: Any = None
        self._label_of = labels_by_name(LoadedModel(model, cfg, classes or None, is_classifier, None), self._classes,
                                        'test')
        infos = [dataset.get_data_info(index) for index in range(min(len(dataset), count or len(dataset)))]
        self._files = [Path(str(info.get('img_path'))) for info in infos]
        if is_classifier:
            self._truth: list[Any] = [np.asarray(info.get('gt_label')) for info in infos]
            if not infos or any(each.size != 1 or each.dtype.kind not in 'iu' for each in self._truth):
                raise UserError('--data: the test set needs images with exactly one label each; leave --data out')
        else:
            self._truth = [boxes_of_instances(info.get('instances', [])) for info in infos]
            if not any(len(each) for each in self._truth):
                raise UserError('--data: these images of the test set have no annotated objects; give more images or '
                                'leave --data out')

    def __len__(self) -> int:
        return len(self._files)

    def evaluate(self, runner: Runner, name: str) -> float:
        """Return AP of boxes over IoU 0.50 to 0.95, or the part of the images with the right class.

        Args:
            runner: The model.
            name: Its name, shown with the progress.
        """
        found = []
        for file in track(self._files, len(self), f'images, {name}'):
            results, _ = runner.predict([runner.preprocess(file)], 0.0)
            found.append(results[0])
        if self.is_classifier:
            labels = np.array([scores.argmax() for scores in found])
            labels = labels if self._label_of is None else self._label_of[labels]
            return float(np.mean(labels == np.array([int(each) for each in self._truth])))
        boxes = [Boxes(each.boxes, each.labels if self._label_of is None else self._label_of[each.labels], each.scores)
                 for each in found]
        return float(np.nanmean(average_precision(self._truth, boxes, len(self._classes)).ap[:, 0]))
