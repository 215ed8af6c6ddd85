"""Read the configs of data sets: nested data sets, class names, paths."""

import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

from vitdet_plugin.config.registry import find_type
from vitdet_plugin.utils.class_names import class_names

SPLITS = ('train', 'val', 'test')
PIPELINES = ('pipeline', 'transforms')  # keys of lists of transforms
_INNER = ('dataset', 'datasets')  # keys of the data sets inside another one
_READERS = ('load_data_list', 'parse_data_info')  # methods that read annotations
_KNOWN = ('mmengine', 'mmdet', 'mmpretrain', 'vitdet_plugin')
IMAGE_SAMPLE = 24  # images per data set that are checked before training


def split_datasets(cfg: Mapping, split: str) -> Iterator[tuple[str, dict]]:
    """Yield (config path, config) of the data sets that a split of a config reads, see :func:`leaf_datasets`."""
    loader = cfg.get(f'{split}_dataloader') or {}
    return leaf_datasets(loader.get('dataset'), f'{split}_dataloader.dataset')


def leaf_datasets(dataset: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Yield (config path, config) of the data sets inside RepeatDataset, ClassBalancedDataset, ConcatDataset, …"""
    return ((key, each) for key, each in nested_datasets(dataset, path) if not any(inner in each for inner in _INNER))


def nested_datasets(dataset: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Yield (config path, config) of a data set, or of those in a list, and of all data sets inside."""
    if isinstance(dataset, (list, tuple)):
        for index, each in enumerate(dataset):
            yield from nested_datasets(each, f'{path}.{index}')
    elif isinstance(dataset, dict):
        yield path, dataset
        for key in _INNER:
            yield from nested_datasets(dataset.get(key), f'{path}.{key}')


def pipeline_steps(pipeline: Any, path: str) -> Iterator[tuple[str, dict]]:
    """Yield (config path, config) of the transforms of a pipeline in order, those within others included."""
    for index, step in enumerate(pipeline if isinstance(pipeline, (list, tuple)) else ()):
        if isinstance(step, dict):
            yield f'{path}[{index}]', step
            for name in PIPELINES:
                yield from pipeline_steps(step.get(name), f'{path}[{index}].{name}')
        else:
            yield from pipeline_steps(step, f'{path}[{index}]')


def data_files(cfg: Mapping, split: str) -> list[str]:
    """Return the annotation files, or else the folders, of a split as the config names them."""
    found = []
    for _, leaf in split_datasets(cfg, split):
        name = leaf.get('ann_file') or (leaf.get('data_prefix') if isinstance(leaf.get('data_prefix'), str) else '')
        found.append(joined_path(leaf, name) if name else str(leaf.get('data_root') or leaf.get('type')))
    return found


def distinct_splits(cfg: Mapping) -> list[list[str]]:
    """Return the splits of a config, of train, val and test; those with the same data are one entry."""
    same: dict[tuple[str, ...], list[str]] = {}
    for split in SPLITS:
        if files := data_files(cfg, split):
            same.setdefault(tuple(files), []).append(split)
    return [*same.values()]


def dataset_classes(cfg: dict) -> list[str] | None:
    """Return the class names of a data set config: those of its metainfo, else of its type."""
    classes = (cfg.get('metainfo') or {}).get('classes')
    if classes is None:
        classes = getattr(find_type(cfg), 'METAINFO', {}).get('classes')
    return class_names(classes)


def has_own_reader(kind: Any) -> bool:
    """Whether a class of data sets reads its annotations by code of the user, so that any file may be valid."""
    return inspect.isclass(kind) and any(
        getattr(kind, name, kind).__module__.partition('.')[0] not in _KNOWN for name in _READERS)


def joined_path(cfg: dict, name: Any) -> str:
    """Join ``data_root`` and ``name`` as mmengine's BaseDataset does."""
    if not isinstance(name, str) or os.path.isabs(name) or '://' in name:
        return name if isinstance(name, str) else ''
    return os.path.join(cfg.get('data_root') or '', name)
