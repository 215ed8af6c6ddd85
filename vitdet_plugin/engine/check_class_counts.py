"""Compare the numbers of classes that a model states with the classes of the data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.dataset_config import SPLITS, split_datasets
from vitdet_plugin.config.registry import type_name
from vitdet_plugin.datasets.checks.findings import Finding

OTHER_CLASSES = ('rpn_head', 'semantic_head', 'train_cfg', 'test_cfg')  # parts whose num_classes has another meaning
_HEADS = ('bbox_head', 'mask_head')
_PANOPTIC_HEADS = ('panoptic_head', 'panoptic_fusion_head')


def check_class_counts(cfg: Config, classes: Sequence[str]) -> list[Finding]:
    """Compare the class counts, and the lengths of class weights, of all heads with the classes of the data.

    Args:
        cfg: Complete config.
        classes: Class names of the data; without any there are no findings.
    """
    if not classes:
        return []
    number, findings = len(classes), []
    mixing = bool((cfg.model.get('train_cfg') or {}).get('augments'))  # Mixup, CutMix: labels become scores
    preprocessor = (cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {})
    if mixing and preprocessor.get('num_classes') != number:
        findings.append(Finding('error', 'model.data_preprocessor.num_classes='
                                         f'{preprocessor.get("num_classes")}, but train_cfg.augments mix the labels of '
                                         f'{number} classes; set it to {number}'))
    has_stuff = any('Panoptic' in type_name(dataset) for split in SPLITS
                    for _, dataset in split_datasets(cfg, split))
    for path, node in _dicts('model', cfg.model):
        findings += _check_head(path.split('.'), node, number, has_stuff)
    return findings


def _dicts(path: str, node: Any) -> Iterator[tuple[str, dict]]:
    if isinstance(node, dict):
        yield path, node
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, (dict, list, tuple)) and key not in OTHER_CLASSES and 'teacher' not in str(key):
            yield from _dicts(f'{path}.{key}', value)


def _check_head(parts: list[str], node: dict, number: int, has_stuff: bool) -> Iterator[Finding]:
    path = '.'.join(parts)
    is_classifier = parts[:2] == ['model', 'head']
    is_panoptic = parts[-1] in _PANOPTIC_HEADS
    counts_classes = parts[-1] != 'data_preprocessor' and 'contrastive_cfg' not in node  # that counts words of a text
    if counts_classes and 'num_classes' in node and node['num_classes'] != number and (
            parts == ['model', 'head'] or any(part in _HEADS for part in parts)):
        yield Finding('error', f'{path}.num_classes={node["num_classes"]}, but the data set has {number} classes; set '
                               f'it to {number}')
    if is_panoptic and 'num_things_classes' in node:
        things, stuff = node['num_things_classes'], node.get('num_stuff_classes', 0)
        if not has_stuff and (things, stuff) != (number, 0):
            yield Finding('error', f'{path}: num_things_classes={things} and num_stuff_classes={stuff}, but the data '
                                   f'set has {number} classes of objects; set them to {number} and 0')
        elif has_stuff and things + stuff != number:
            yield Finding('error', f'{path}: num_things_classes={things} and num_stuff_classes={stuff} are '
                                   f'{things + stuff} classes, but the data set has {number}; correct them')
    weights = node.get('class_weight')
    if isinstance(weights, (list, tuple)) and (is_classifier or any(
            part in (*_HEADS, *_PANOPTIC_HEADS) for part in parts)):
        needed = number if is_classifier or node.get('use_sigmoid') else number + 1  # the last one for no object
        if len(weights) != needed:
            background = ' and the background' if needed > number else ''
            yield Finding('error', f'{path}.class_weight has {len(weights)} numbers, but the data set has {number} '
                                   f'classes; give {needed}, one for each class{background}')
