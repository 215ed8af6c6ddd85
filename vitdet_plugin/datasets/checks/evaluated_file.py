"""Checks of evaluators before a run: the file they read, the masks in it, and the metric that selects checkpoints."""

from __future__ import annotations

import collections
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitdet_plugin.coco.content import category_name
from vitdet_plugin.compat.coco_api import has_mask
from vitdet_plugin.config.dataset_config import joined_path
from vitdet_plugin.config.registry import as_list, is_coco_metric, type_name
from vitdet_plugin.datasets.checks.detection_data import FULL_PARSE_BYTES
from vitdet_plugin.datasets.checks.findings import Finding
from vitdet_plugin.datasets.coco import image_file_name, is_id, read_coco
from vitdet_plugin.errors import UserError

_KINDS = ('bbox', 'segm')
_REQUIRE_FILE = ('CocoMetric', 'FastCocoMetric')


class _EvaluatedFile(NamedTuple):
    """Names of the images of a COCO file by id; its objects, and whether one has a mask (None for a large file)."""

    images: dict[Any, str]
    objects: collections.Counter[str] | None
    has_masks: bool | None


def check_evaluators(split: str, evaluators: Any, datasets: Sequence[tuple[str, dict]],
                     selecting: Sequence[tuple[str, str]] = ()) -> list[Finding]:
    """Check the COCO evaluators of a split against its data sets.

    Args:
        split: ``'val'`` or ``'test'``.
        evaluators: ``*_evaluator`` of the config.
        datasets: (key in the config, config) of its data sets.
        selecting: (key in the config, metric) of hooks that read a metric, such as ``save_best``.
    """
    findings, kinds = _check_forms(split, evaluators, datasets), set()
    evaluators = list(_coco_evaluators(evaluators))
    for evaluator in evaluators:
        measured = set(_metrics(evaluator))
        path = evaluator.get('ann_file')
        if isinstance(path, str) and '://' not in path and os.path.isfile(path) and not evaluator.get('format_only'):
            try:
                content = _read(os.path.abspath(path), os.path.getmtime(path))
            except UserError as error:
                findings.append(Finding('error', f'{split}_evaluator.ann_file: {error}'))
                continue
            findings += _compare(split, path, content, datasets)
            if 'segm' in measured and content.has_masks is False:
                measured.discard('segm')
                if not measured:
                    findings.append(Finding('error', f'{split}_evaluator: {path} has no masks, so segm cannot be '
                                                     'evaluated; evaluate bbox or add masks'))
        kinds |= measured
    for key, metric in selecting if evaluators else ():
        kind = next((each for each in _KINDS if f'/{each}_' in f'/{metric}'), None)
        if kind is not None and kind not in kinds:
            findings.append(Finding('error', f'{key}={metric}, but {kind} is not evaluated: it is not in '
                                             f'{split}_evaluator.metric, or the annotations have no masks; set it to '
                                             f'a metric of {", ".join(sorted(kinds)) or "the evaluator"}'))
    return findings


def _check_forms(split: str, evaluators: Any, datasets: Sequence[tuple[str, dict]]) -> list[Finding]:
    """Report evaluators without a type, and COCO evaluators without the file that they compare with."""
    findings = []
    is_list = isinstance(evaluators, (list, tuple))
    for index, each in enumerate(as_list(evaluators) if evaluators else []):
        key = f'{split}_evaluator.{index}' if is_list else f'{split}_evaluator'
        if isinstance(each, dict) and not each.get('type') and not each.get('metrics'):
            findings.append(Finding('error', f"{key} has no 'type'; add it, such as type='CocoMetric'. A dict of a "
                                             'base config is not merged into a list'))
        elif isinstance(each, dict) and type_name(each) in _REQUIRE_FILE and not each.get('ann_file') \
                and not each.get('format_only') and "'instances'" not in str(datasets):  # packed with the images
            own = next((found for _, dataset in datasets if (found := joined_path(dataset, dataset.get('ann_file')))),
                       'the annotation file of the data set')
            findings.append(Finding('error', f'{key}.ann_file is not set, so there is nothing to compare with; set it '
                                             f'to {own}'))
    return findings


def evaluates_masks(evaluators: Any) -> bool:
    """Whether one of the COCO evaluators measures masks."""
    return any('segm' in _metrics(each) for each in _coco_evaluators(evaluators))


def _coco_evaluators(evaluators: Any) -> Iterator[dict]:
    yield from filter(is_coco_metric, as_list(evaluators))


def _metrics(evaluator: dict) -> list[str]:
    metric = evaluator.get('metric', 'bbox')
    return [metric] if isinstance(metric, str) else list(metric)


def _compare(split: str, path: str, content: _EvaluatedFile, datasets: Sequence[tuple[str, dict]]) -> list[Finding]:
    images, findings = content.images, []
    for key, dataset in datasets:
        own = joined_path(dataset, dataset.get('ann_file'))
        if not own.endswith('.json') or not os.path.isfile(own) or os.path.samefile(own, path):
            continue
        try:
            its = _read(os.path.abspath(own), os.path.getmtime(own))
        except UserError:
            continue  # reported with the data set
        mine = its.images
        different = [each for each in mine if images.get(each) != mine[each]]
        if different:
            there = images.get(different[0], 'absent')
            return [Finding('error', f'{split}_evaluator.ann_file: {path} has other images or image ids than '
                                     f'{own} of {key} ({len(different)} of {len(mine)} differ: id {different[0]} is '
                                     f'{there} there and {mine[different[0]]} here); set it to the file of the data '
                                     'set')]
        if content.objects is not None and its.objects is not None:
            unequal = (its.objects - content.objects).total() + (content.objects - its.objects).total()
            if unequal:
                findings.append(Finding('warning', f'{split}_evaluator.ann_file: {path} has other objects than {own} '
                                                   f'of {key} ({unequal} are in one of them only); results are '
                                                   'compared with those of the evaluator'))
    return findings


@functools.lru_cache(maxsize=8)
def _read(path: str, _modified: float) -> _EvaluatedFile:
    is_partial = os.path.getsize(path) > FULL_PARSE_BYTES
    content = read_coco(path, needs_annotations=False, is_partial=is_partial)
    images = {each['id']: Path(image_file_name(each) or '').name for each in content['images'] if is_id(each.get('id'))}
    objects = [] if is_partial else [each for each in content['annotations'] if isinstance(each, dict)]
    names = {each['id']: category_name(each) for each in content['categories'] if is_id(each.get('id'))}
    counts = None if is_partial else collections.Counter(
        str((each.get('image_id'), names.get(each['category_id']) if is_id(each.get('category_id')) else None,
             each.get('bbox'))) for each in objects)
    return _EvaluatedFile(images, counts, any(has_mask(each) for each in objects) if objects else None)
