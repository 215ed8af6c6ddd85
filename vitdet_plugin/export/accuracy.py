"""Accuracy and speed of exported files: average precision or top-1 on the test split, and times side by side."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import paste_masks

Run = Callable[[np.ndarray], Sequence[np.ndarray]]
_ROUNDS = 7


class InputShape:
    """Bring images to the input of an exported file: right and bottom padding, channels in RGB order.

    Args:
        metadata: That of the file.
    """

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self.shape = tuple(json.loads(metadata['shape']))
        self.is_fixed = 'size' not in json.loads(metadata.get('dynamic', '[]'))
        self.padding = np.array(json.loads(metadata['padding']), np.float32)[:, None, None]

    def __call__(self, image: Tensor) -> np.ndarray:
        """(C, h, w), uint8, as pipelines load it -> (1, C, H, W), float32.

        Raises:
            UserError: The image is larger than a fixed input.
        """
        planes = image.float().numpy()
        planes = planes[::-1] if len(planes) == 3 else planes
        size = planes.shape[1:]
        if not self.is_fixed or size == self.shape:
            return np.ascontiguousarray(planes)[None]
        if size[0] > self.shape[0] or size[1] > self.shape[1]:
            raise UserError(f'the test pipeline gives {size[0]} x {size[1]} pixels, which does not fit into the '
                            f'exported {self.shape[0]} x {self.shape[1]}; give a larger --shape, or --dynamic size')
        canvas = np.broadcast_to(self.padding, (len(planes), *self.shape)).copy()
        canvas[:, :size[0], :size[1]] = planes
        return canvas[None]


def measure_accuracy(loaded: LoadedModel, run: Run, fit: InputShape) -> dict[str, float]:
    """Evaluate an exported classifier or detector on the config's test split.

    Args:
        loaded: The model that was exported.
        run: Runs the file.
        fit: Brings images to its input.

    Returns:
        Name of the metric (box AP, mask AP, top-1) -> value in percent.

    Raises:
        UserError: The test split does not exist on this machine.
    """
    if loaded.is_classifier:
        from vitdet_plugin.evaluation.classifications import classify_split
        classified = classify_split(dataclasses.replace(loaded, model=_Classifier(run, fit)), 'test', 1)
        return {'top-1': 100 * float(classified.is_correct.mean())}
    from vitdet_plugin.evaluation.average_precision import average_precision
    from vitdet_plugin.evaluation.detections import detect_split
    threshold = (getattr(getattr(loaded.model, 'roi_head', None), 'test_cfg', None) or {}).get('mask_thr_binary', 0.5)
    split = detect_split(dataclasses.replace(loaded, model=_Detector(run, fit, threshold)), 'test')
    kinds = [('box AP', False), *([('mask AP', True)] if split.has_masks else [])]
    found = {name: average_precision(split.truth, split.found, len(split.classes), masks) for name, masks in kinds}
    return {name: 100 * float(np.nanmean(each.ap[:, 0])) for name, each in found.items()}


def test_images(loaded: LoadedModel) -> int:
    """Return the number of images of the test split; 0 if it does not exist on this machine."""
    from vitdet_plugin.engine.load_model import build_dataset
    try:
        return len(build_dataset(loaded.cfg, 'test'))
    except (UserError, OSError):
        return 0


def measure_times(runs: Sequence[Run], image: np.ndarray, rounds: int = _ROUNDS) -> list[float]:
    """Return the median time in seconds of each of ``runs`` for an image; the runs take turns."""
    times = np.zeros((rounds + 1, len(runs)))
    for row in times:
        for index, run in enumerate(runs):
            start = time.perf_counter()
            run(image)
            row[index] = time.perf_counter() - start
    return np.median(times[1:], 0).tolist()


class _Classifier(nn.Module):
    """Takes the place of a classifier of mmpretrain in an evaluation."""

    def __init__(self, run: Run, fit: InputShape) -> None:
        super().__init__()
        self.run, self.fit = run, fit

    def test_step(self, data: dict[str, Any]) -> list[Any]:
        samples = []
        for image, sample in zip(data['inputs'], data['data_samples']):
            scores = torch.from_numpy(np.asarray(self.run(self.fit(image))[0])[0])
            samples.append(sample.set_pred_score(scores).set_pred_label(scores.argmax()))
        return samples


class _Detector(nn.Module):
    """Takes the place of a detector of mmdet in an evaluation."""

    def __init__(self, run: Run, fit: InputShape, threshold: float) -> None:
        super().__init__()
        self.run, self.fit, self.threshold = run, fit, threshold

    def test_step(self, data: dict[str, Any]) -> list[Any]:
        return [self._predict(image, sample) for image, sample in zip(data['inputs'], data['data_samples'])]

    def _predict(self, image: Tensor, sample: Any) -> Any:
        from mmengine.structures import InstanceData
        planes = self.fit(image)
        found = [part[0] if part.ndim > least else part for part, least in zip(self.run(planes), (2, 1, 1, 3))]
        kept = found[1] > 0
        boxes, scores, labels, *masks = (part[kept] for part in found)
        rows, columns = sample.ori_shape
        scale = np.array([*sample.scale_factor] * 2, np.float32)
        boxes = (boxes / scale).clip(0, np.array([columns, rows] * 2, np.float32))
        sample.pred_instances = InstanceData(bboxes=torch.from_numpy(boxes), scores=torch.from_numpy(scores),
                                             labels=torch.from_numpy(labels))
        if masks and masks[0].shape[1:] != planes.shape[2:]:  # pasted masks are not evaluated
            pasted = paste_masks(masks[0], boxes, (rows, columns)) >= 255 * self.threshold
            sample.pred_instances.masks = torch.from_numpy(pasted)
        return sample
