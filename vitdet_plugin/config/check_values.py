"""Check the kinds of values of the keys that a runner reads, before it fails on them without naming the key."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.registry import as_list, type_name
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

_SECTION = 'a section with keys'
_TYPED = 'a section with a type'
_SECTIONS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
             'optim_wrapper', 'default_hooks', 'env_cfg', 'visualizer', 'log_processor', 'randomness', 'auto_scale_lr',
             'model_wrapper_cfg', 'data_preprocessor', 'env_cfg.mp_cfg', 'env_cfg.dist_cfg')
_LOADER_PARTS = ('dataset', 'sampler', 'batch_sampler', 'collate_fn')
_TYPED_SECTIONS = ('optim_wrapper.optimizer', *(
    f'{split}_dataloader.{part}' for split in ('train', 'val', 'test') for part in _LOADER_PARTS))
_COCO = ('CocoMetric', 'LVISMetric')
_METRICS = ['bbox', 'segm', 'proposal', 'proposal_fast']  # of CocoMetric
_LISTS = ('custom_hooks', 'param_scheduler', 'val_evaluator', 'test_evaluator')


def check_values(cfg: Config) -> None:
    """Check that sections are sections, that names are known ones, and that switches are true or false.

    Raises:
        UserError: Names the first key whose value is of another kind, and what to set.
    """
    for key, value, expected in _faults(cfg):
        raise UserError(f'{cfg.filename or "config"}: {key} is {value!r}; set {expected}')


def _faults(cfg: Config) -> Iterator[tuple[str, Any, str]]:
    for key in _SECTIONS:
        yield from _check(cfg, key, _is_section, _SECTION)
    for key in _TYPED_SECTIONS:
        yield from _check(cfg, key, _is_section, _TYPED)
    hooks = cfg.get('default_hooks')
    for name in hooks if isinstance(hooks, dict) else ():
        yield from _check(cfg, f'default_hooks.{name}', _is_section, f'{_TYPED}, or None')
    for key in _LISTS:
        value = cfg.get(key)
        is_list = isinstance(value, (list, tuple))
        for index, each in enumerate(value if is_list else ()):
            if not _is_section(each):
                yield f'{key}[{index}]', each, _TYPED
        if not is_list and (not _is_section(value) or key == 'custom_hooks' and isinstance(value, dict)):
            yield key, value, f'a list of sections ([dict(type=…)]){"" if key == "custom_hooks" else ", or one"}'
    levels: list[str] = [name for name in logging.getLevelNamesMapping() if name not in ('NOTSET', 'WARN')]
    yield from _check(cfg, 'log_level', lambda value: value in levels or isinstance(value, int), _one_of(levels))
    methods = multiprocessing.get_all_start_methods()
    yield from _check(cfg, 'env_cfg.mp_cfg.mp_start_method', lambda value: value in methods, _one_of(methods))
    yield from _check(cfg, 'env_cfg.mp_cfg.opencv_num_threads', lambda value: isinstance(value, int), 'a whole number')
    yield from _check(cfg, 'default_scope', lambda value: isinstance(value, str), 'mmdet or mmpretrain')
    yield from _check(cfg, 'sync_bn', lambda value: value in ('torch', 'mmcv'), _one_of(['torch', 'mmcv']))
    yield from _check(cfg, 'randomness.seed', _is_seed, f'a whole number from 0 to {2**32 - 1}')
    yield from _check(cfg, 'resume', lambda value: isinstance(value, (bool, int)), 'True or False; name the checkpoint '
                      'with --resume FILE, or as load_from next to resume=True')
    for split in ('train', 'val', 'test'):
        yield from _check(cfg, f'{split}_dataloader.dataset.metainfo', _is_section,
                          "a section: dict(classes=('a', 'b'))")
    for key in ('val_evaluator', 'test_evaluator'):
        yield from _check_metrics(cfg, key)
    for key in ('randomness.deterministic', 'find_unused_parameters', 'env_cfg.cudnn_benchmark'):
        yield from _check(cfg, key, lambda value: isinstance(value, (bool, int)), 'True or False')
    yield from _check(cfg, 'compile', lambda value: isinstance(value, (bool, dict)), 'True, False or a section')


def _check(cfg: Config, key: str, fits: Callable[[Any], bool], expected: str) -> Iterator[tuple[str, Any, str]]:
    node: Any = cfg._cfg_dict
    for part in key.split('.'):
        node = node.get(part) if isinstance(node, dict) else None
    if node is not None and not fits(node):
        names = [word for word in expected.replace(',', '').split() if word not in ('a', 'or')]
        yield key, node, expected + (suggest(node, names) if isinstance(node, str) and ' or ' in expected else '')


def _check_metrics(cfg: Config, key: str) -> Iterator[tuple[str, Any, str]]:
    evaluators = cfg.get(key)
    is_list = isinstance(evaluators, (list, tuple))
    for index, each in enumerate(as_list(evaluators)):
        if not isinstance(each, dict) or type_name(each) not in _COCO or 'metric' not in each:
            continue
        value = each['metric']
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or not names or any(name not in _METRICS for name in names):
            yield f'{key}[{index}].metric' if is_list else f'{key}.metric', value, f'one or several of {_METRICS}'


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**32


def _is_section(value: Any) -> bool:
    """Whether a value is a section, not set, or an object that was built already."""
    return value is None or not isinstance(value, (str, int, float, list, tuple))


def _one_of(names: list[str]) -> str:
    return f'{", ".join(names[:-1])} or {names[-1]}'
