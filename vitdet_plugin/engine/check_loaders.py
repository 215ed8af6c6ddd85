"""Check the settings of data loaders, and repair those that only apply with data workers."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config
from torch.utils.data import DataLoader

from vitdet_plugin.config.dataset_config import SPLITS, leaf_datasets
from vitdet_plugin.config.registry import find_type, type_name
from vitdet_plugin.config.train_length import counts_epochs
from vitdet_plugin.datasets.checks.findings import Finding
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import warn

_MIXES_NO_MASKS = {'Mosaic': 'CachedMosaic', 'MixUp': 'CachedMixUp'}  # mmdet's; those that do, in the inner pipeline
_NEED_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')
_MOST_WORKERS = 1024


def repair_loaders(cfg: Config) -> None:
    """Remove options of data workers from loaders without workers, in place; one line names them."""
    removed = []
    for split in SPLITS:
        loader = cfg.get(f'{split}_dataloader')
        if not isinstance(loader, dict) or loader.get('num_workers', 0) not in (0, None):
            continue
        if loader.get('num_workers', 0) is None:
            loader.num_workers = 0
        for key in _NEED_WORKERS:
            if loader.get(key):
                removed.append(f'{split}_dataloader.{key}={loader.pop(key)}')
    if removed:
        warn(f'{", ".join(removed)}: ignored, because it requires num_workers of at least 1')


def check_loaders(cfg: Config, splits: Sequence[str]) -> list[Finding]:
    """Return findings about batch sizes, data workers and samplers.

    Args:
        cfg: Complete config; not changed.
        splits: Which of train, val, test will run.
    """
    findings: list[Finding] = []
    for split in splits:
        name, loader = f'{split}_dataloader', cfg.get(f'{split}_dataloader')
        if isinstance(loader, dict):
            findings += _check_loader(name, loader, split)
        trio = [name, f'{split}_cfg', f'{split}_evaluator']
        missing = [key for key in trio if cfg.get(key) is None]
        if split != 'train' and missing and len(missing) < len(trio):
            present = [key for key in trio if key not in missing]
            findings.append(Finding('error', f'the config has {" and ".join(present)}, but no '
                                             f'{" and no ".join(missing)}; add it, or set the others to None'))
    if 'train' in splits and isinstance(cfg.get('train_dataloader'), dict) and 'InfiniteSampler' in type_name(
            cfg.train_dataloader.get('sampler')) and counts_epochs(cfg.get('train_cfg') or {}):
        findings.append(Finding('error', 'train_dataloader.sampler.type=InfiniteSampler never ends, so that the first '
                                         'epoch would not end; use DefaultSampler, or an IterBasedTrainLoop'))
    return findings


def _check_loader(name: str, loader: dict, split: str) -> list[Finding]:
    findings: list[Finding] = []
    for key in ('dataset', 'sampler'):
        if loader.get(key) is None:
            findings.append(Finding('error', f'{name} has no {key!r}; add it, such as '
                                    + ("sampler=dict(type='DefaultSampler', shuffle=True)" if key == 'sampler'
                                       else "dataset=dict(type='CocoDataset', …)")))
    dataset = loader.get('dataset')
    outer = dataset.get('pipeline') or () if isinstance(dataset, dict) and 'dataset' in dataset else ()
    mixing = [kind for step in outer if (kind := type_name(step)) in _MIXES_NO_MASKS]
    if mixing and any(step.get('with_mask') for _, each in leaf_datasets(dataset, '')
                      for step in each.get('pipeline') or () if isinstance(step, dict)):
        findings.append(Finding('error', f"{name}.dataset.pipeline: {mixing[0]} of mmdet does not support masks; use "
                                         f"{_MIXES_NO_MASKS[mixing[0]]} in the data set's own pipeline, or set "
                                         'with_mask=False in its LoadAnnotations'))
    for path, each in leaf_datasets(dataset, f'{name}.dataset'):
        if not outer and isinstance(each.get('pipeline'), (list, tuple)) and not each['pipeline']:
            findings.append(Finding('error', f'{path}.pipeline is empty: it has to load and pack the images; give its '
                                             'transforms'))
        findings += [Finding('error', f'{path}.pipeline: {type_name(step)} combines several images, which '
                                      f"MultiImageMixDataset gives it; set {name}.dataset to dict(type='Multi"
                                      f"ImageMixDataset', dataset=…, pipeline=[{type_name(step)}, …])")
                     for step in each.get('pipeline') or () if _requires_images(step)]
    batch_size = loader.get('batch_size', 1)
    if loader.get('batch_sampler') is not None and 'batch_size' not in loader:
        findings.append(Finding('error', f'{name} has a batch_sampler, but no batch_size; add it'))
    findings += check_whole_number(f'{name}.batch_size', batch_size, 1)
    workers = loader.get('num_workers', 0)
    findings += check_whole_number(f'{name}.num_workers', workers, 0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    if not findings and workers > _MOST_WORKERS:
        findings.append(Finding('error', f'{name}.num_workers={workers}: each is a process, and this machine has '
                                         f'{cores} cores for this one; give at most {_MOST_WORKERS}'))
    if not findings and workers > max(8, 2 * cores):
        findings.append(Finding('warning', f'{name}.num_workers={workers}, but this machine has {cores} cores for this '
                                           'process: more data workers take memory without being faster'))
    if split != 'train' and 'InfiniteSampler' in type_name(loader.get('sampler')):
        findings.append(Finding('error', f'{name}.sampler.type=InfiniteSampler: the evaluation would never end; use '
                                         'DefaultSampler with shuffle=False'))
    if split != 'train' and loader.get('drop_last'):
        findings.append(Finding('warning', f'{name}.drop_last=True: the images of the last incomplete batch are not '
                                           'evaluated; set it to False'))
    return findings


def _requires_images(step: Any) -> bool:
    """Whether a transform receives further images from MultiImageMixDataset; mmdet's cached ones keep their own."""
    return isinstance(step, dict) and 'get_indexes' in dir(find_type(step)) and 'Cached' not in type_name(step)


def check_whole_number(key: str, value: Any, lowest: int) -> list[Finding]:
    """Return an error if the value is not a whole number of at least ``lowest``."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= lowest:
        return []
    return [Finding('error', f'{key}={value!r}: give a whole number of at least {lowest}')]


def check_batches(name: str, loader: DataLoader) -> None:
    """Check that a loader that was built yields a batch on this rank.

    Args:
        name: Key of the loader in the config.
        loader: A loader of mmengine.

    Raises:
        UserError: There are no batches; names the number of images and the settings.
    """
    batches = loader.batch_sampler
    if batches is None or 'InfiniteSampler' in type(loader.sampler).__name__:
        return
    try:
        count, size = len(batches), len(loader.dataset)  # type: ignore[arg-type]
    except TypeError:  # of unknown length
        return
    if count == 0:
        raise no_batches(name, size, getattr(batches, 'batch_size', None), getattr(batches, 'drop_last', False))


def no_batches(name: str, images: int, batch_size: int | None, drop_last: bool) -> UserError:
    """Return the error for a loader that yields no batches."""
    why = ('drop_last=True leaves out incomplete batches: set batch_size to at most the number of images per rank, or '
           'drop_last to False') if drop_last else 'check the data set, filter_cfg and the sampler'
    return UserError(f'{name}: no batch of {batch_size} from {images} images; {why}')
