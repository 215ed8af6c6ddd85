"""Warnings about the splits of a config in relation to each other: the same file twice, other object sizes."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from vitdet_plugin.config.dataset_config import joined_path, split_datasets
from vitdet_plugin.config.registry import as_list, type_name
from vitdet_plugin.datasets.checks.detection_data import reads_coco, summarize_coco
from vitdet_plugin.datasets.checks.findings import Finding
from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.pipeline import output_size

_MOST_LARGER = 2.0  # sides of test images relative to training crops; the shipped recipes have at most 1.75


def check_across_splits(cfg: Any, splits: Sequence[str]) -> list[Finding]:
    """Warn about an annotation file that is trained and evaluated on, and about crops far smaller than test images.

    Args:
        cfg: Complete config.
        splits: Which of train, val, test will run.
    """
    if 'train' not in splits:
        return []
    trained = list(_coco_sets(cfg, 'train'))
    files = {os.path.realpath(file): path for path, _, file in trained}
    crop = max((_crop_side(dataset) for _, dataset, _ in trained), default=0)
    evaluated = [each for split in ('val', 'test') if split in splits for each in _coco_sets(cfg, split)]
    findings = {}  # by what they are about: val and test are often the same set
    for path, dataset, file in evaluated:
        name = os.path.realpath(file)
        if name in files:
            findings.setdefault(name, Finding('warning', f'{path}.ann_file: {file} is also the file of {files[name]}, '
                                                         'so the metrics are those of images that were trained on; '
                                                         'evaluate on another split'))
        side = _test_side(dataset, file)
        if crop and side > _MOST_LARGER * crop:
            findings.setdefault((crop, side), Finding(
                'warning', f'{path}.pipeline: images of up to {side:.0f} pixels are tested, but the training crops '
                           f'have {crop:.0f}; train on larger crops or test at a smaller size'))
    return list(findings.values())


def _coco_sets(cfg: Any, split: str) -> Iterator[tuple[str, dict, str]]:
    """Yield (key, config, annotation file) of the data sets of a split that read an existing COCO file."""
    for path, dataset in split_datasets(cfg, split):
        file = joined_path(dataset, dataset.get('ann_file'))
        if not dataset.get('backend_args') and reads_coco(dataset) and os.path.isfile(file):
            yield path, dataset, file


def _crop_side(dataset: dict) -> float:
    """Return the longer side in pixels of the crops that a training pipeline ends with; 0 if it does not crop."""
    side = 0.0
    for step in dataset.get('pipeline') or ():
        kind = type_name(step)
        if kind == 'LargeScaleJitter':
            side = step.get('image_size', 1024)
        elif kind == 'RandomCrop' and step.get('crop_type', 'absolute') == 'absolute':
            side = _longest(step.get('crop_size'))
        elif kind in ('Resize', 'RandomResize', 'RandomChoiceResize', 'RandomChoice'):
            side = 0.0  # the crop is resized again
    return side


def _test_side(dataset: dict, file: str) -> float:
    """Return the longest side in pixels of the images after a test pipeline; 0 if it is not known."""
    try:
        side = summarize_coco(file).longest_side
    except UserError:
        return 0
    size = output_size(dataset.get('pipeline') or (), (side, side))
    return max(size) if size else 0


def _longest(size: Any) -> float:
    return max((value for value in as_list(size) if isinstance(value, (int, float))), default=0)
