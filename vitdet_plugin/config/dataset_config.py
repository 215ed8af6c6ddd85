"""Read the configs of data sets: nested data sets, class names, paths."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from vitdet_plugin.config.registry import find_type
from vitdet_plugin.utils.class_names import class_names

IMAGE_SAMPLE = 24  # images per data set that are checked before training


def leaf_datasets(dataset: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Yield (config path, config) of the data sets inside RepeatDataset, ClassBalancedDataset, ConcatDataset, …"""
    if isinstance(dataset, (list, tuple)):
        for index, each in enumerate(dataset):
            yield from leaf_datasets(each, f'{path}.{index}')
    elif isinstance(dataset, dict):
        inner = [key for key in ('dataset', 'datasets') if key in dataset]
        for key in inner:
            yield from leaf_datasets(dataset[key], f'{path}.{key}')
        if not inner:
            yield path, dataset


def data_files(cfg: Mapping, split: str) -> list[str]:
    """Return the annotation files, or else the folders, of a split as the config names them."""
    found = []
    for _, leaf in leaf_datasets((cfg.get(f'{split}_dataloader') or {}).get('dataset'), ''):
        name = leaf.get('ann_file') or (leaf.get('data_prefix') if isinstance(leaf.get('data_prefix'), str) else '')
        found.append(joined_path(leaf, name) if name else str(leaf.get('data_root') or leaf.get('type')))
    return found


def distinct_splits(cfg: Mapping) -> list[list[str]]:
    """Return the splits of a config, of train, val and test; those with the same data are one entry."""
    same: dict[tuple[str, ...], list[str]] = {}
    for split in ('train', 'val', 'test'):
        if files := data_files(cfg, split):
            same.setdefault(tuple(files), []).append(split)
    return [*same.values()]


def dataset_classes(cfg: dict) -> list[str] | None:
    """Return the class names of a data set config: those of its metainfo, else of its type."""
    classes = (cfg.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = getattr(find_type(cfg), 'METAINFO', {}).get('classes')
    return class_names(classes)


def joined_path(cfg: dict, name: Any) -> str:
    """Join ``data_root`` and ``name`` as mmengine's BaseDataset does."""
    if not isinstance(name, str) or os.path.isabs(name) or '://' in name:
        return name if isinstance(name, str) else ''
    return os.path.join(cfg.get('data_root') or '', name)
