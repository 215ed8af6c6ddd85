"""Checks of evaluators before a run: the file they read, the masks in it, and the names of their metrics."""

from __future__ import annotations

import collections
import contextlib
import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vitdet_plugin.coco.content import category_name
from vitdet_plugin.compat.coco_api import has_mask
from vitdet_plugin.config.dataset_config import joined_path, leaf_datasets, nested_datasets
from vitdet_plugin.config.registry import as_list, is_coco_metric, type_name
from vitdet_plugin.datasets.checks.detection_data import FULL_PARSE_BYTES, reads_coco
from vitdet_plugin.datasets.checks.findings import Finding
from vitdet_plugin.datasets.coco import image_file_name, is_id, read_coco
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

_KINDS = ('bbox', 'segm')
_AP = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
_AR = ('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000')
_ITEMS = (*_AP, *_AR)  # names of mmdet
_LIMITS = 3  # numbers of detections for which recall is computed
_AT = 100  # detections of an image, for which COCO defines its average precision
_REQUIRE_FILE = ('CocoMetric', 'FastCocoMetric')


class _EvaluatedFile(NamedTuple):
    """Names of the images of a COCO file by id; its objects, and whether one has a mask (None for a large file)."""

    images: dict[Any, str]
    objects: collections.Counter[str] | None
    has_masks: bool | None


def check_evaluators(split: str, evaluators: Any, datasets: Sequence[tuple[str, dict]]) -> list[Finding]:
    """Check the COCO evaluators of a split against its data sets.

    Args:
        split: ``'val'`` or ``'test'``.
        evaluators: ``*_evaluator`` of the config.
        datasets: (key in the config, config) of its data sets.
    """
    if isinstance(evaluators, dict) and type_name(evaluators) == 'MultiDatasetsEvaluator':  # a part for each data set
        parts = as_list(evaluators.get('metrics') or ())
        return [finding for index, part in enumerate(parts) for finding in
                check_evaluators(split, [part], datasets[index:index + 1])]
    findings = _check_forms(split, evaluators, datasets)
    for evaluator in _coco_evaluators(evaluators):
        path = _file(evaluator)
        if path is None or evaluator.get('format_only'):
            continue
        try:
            content = _read(os.path.abspath(path), os.path.getmtime(path))
        except UserError as error:
            findings.append(Finding('error', f'{split}_evaluator.ann_file: {error}'))
            continue
        findings += _compare(split, path, content, datasets)
        if not measured_kinds(evaluator):
            findings.append(Finding('error', f'{split}_evaluator: {path} has no masks, so segm cannot be evaluated; '
                                             'evaluate bbox or add masks'))
    return findings


def check_repeated_images(split: str, evaluators: Any, dataset: Any) -> list[Finding]:
    """Report images that COCO evaluators would get twice: they match each time with all objects of the image.

    Args:
        split: ``'val'`` or ``'test'``.
        evaluators: ``*_evaluator`` of the config.
        dataset: ``*_dataloader.dataset`` of the config.
    """
    path = f'{split}_dataloader.dataset'
    names: dict[Any, tuple[str, str]] = {}  # id -> file name, key of the data set
    if not any(_coco_evaluators(evaluators)):
        return []
    for key, leaf in leaf_datasets(dataset, path):
        own = joined_path(leaf, leaf.get('ann_file'))
        if not reads_coco(leaf) or not os.path.isfile(own) or leaf.get('indices') is not None:
            continue
        try:
            images = _read(os.path.abspath(own), os.path.getmtime(own)).images
        except UserError:
            continue  # reported with the data set
        for number, name in images.items():
            if names.setdefault(number, (name, key))[0] == name and names[number][1] != key:
                return [Finding('error', f'{path}: image id {number} ({name}) is in {names[number][1]} and in {key}; '
                                         'detections of both would be compared with one annotation: leave one out')]
    return [Finding('error', f'{key}: RepeatDataset(times={times}) evaluates each image {times} times, and compares '
                             'all detections with one annotation; use the data set in it')
            for key, each in nested_datasets(dataset, path)
            if type_name(each) == 'RepeatDataset' and (times := each.get('times')) != 1]


def measured_kinds(evaluator: dict) -> list[str]:
    """Return what a COCO evaluator measures: the kinds in ``metric``, without masks if its file has none."""
    path, kinds = _file(evaluator), _metrics(evaluator)
    if 'segm' in kinds and path is not None:
        with contextlib.suppress(UserError):  # reported by check_evaluators
            if _read(os.path.abspath(path), os.path.getmtime(path)).has_masks is False:
                return [kind for kind in kinds if kind != 'segm']
    return kinds


def coco_metric_names(evaluator: dict) -> list[str]:
    """Return the names of a COCO evaluator's metrics without prefix; ``*`` stands for names that are not listed."""
    if type_name(evaluator) not in _REQUIRE_FILE:
        kinds = [kind for kind in measured_kinds(evaluator) if kind in _KINDS]
        return [f'{kind}_*' for kind in kinds] if kinds and 'LVIS' in type_name(evaluator) else ['*']
    items = evaluator.get('metric_items')
    return [item if kind == 'proposal' else f'{kind}_{item}' for kind in measured_kinds(evaluator)
            for item in as_list(items or (_AR if kind == 'proposal' else _AP))]


def _file(evaluator: dict) -> str | None:
    path = evaluator.get('ann_file')
    return path if isinstance(path, str) and '://' not in path and os.path.isfile(path) else None


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
                and "'instances'" not in str(datasets):  # packed with the images
            own = next((found for _, dataset in datasets if (found := joined_path(dataset, dataset.get('ann_file')))),
                       'the annotation file of the data set')
            findings.append(Finding('error', f'{key}.ann_file is not set, so there is nothing to compare with; set it '
                                             f'to {own}'))
        elif isinstance(each, dict) and type_name(each) in _REQUIRE_FILE:
            findings += _check_values(key, each)
    return findings


def _check_values(key: str, evaluator: dict) -> Iterator[Finding]:
    """Report values with which mmdet's ``CocoMetric`` fails after the predictions, or measures nothing."""
    kinds, numbers = set(_metrics(evaluator)), evaluator.get('proposal_nums')
    if 'proposal_fast' in kinds:
        yield Finding('error', f"{key}.metric='proposal_fast' does not work with NumPy 2; set it to 'proposal'")
    for item in as_list(evaluator.get('metric_items') or ()):
        if item not in _ITEMS:
            yield Finding('error', f'{key}.metric_items: {item!r} is unknown{suggest(str(item), _ITEMS)}; choose from '
                                   f'{", ".join(_ITEMS)}')
    if numbers is not None and not (isinstance(numbers, (list, tuple)) and len(numbers) == _LIMITS):
        yield Finding('error', f'{key}.proposal_nums={numbers!r}: give three numbers, such as (100, 300, 1000)')
    elif numbers is not None and kinds & {*_KINDS} and _AT not in numbers:
        yield Finding('error', f'{key}.proposal_nums={tuple(numbers)} lacks {_AT}, the number of detections for which '
                               'mAP is defined; without it mAP is -1')
    if type_name(evaluator) == 'CocoMetric' and evaluator.get('iou_thrs') is not None:
        yield Finding('error', f"{key}: mmdet's CocoMetric fails with iou_thrs; set its type to 'FastCocoMetric'")
    if evaluator.get('format_only') and not evaluator.get('outfile_prefix'):
        yield Finding('error', f'{key}.format_only=True requires outfile_prefix, the path of the result files without '
                               'suffix')


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
        if not reads_coco(dataset) or not os.path.isfile(own) or os.path.samefile(own, path):
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
