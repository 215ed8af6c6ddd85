"""Check the kinds of values of the keys that a runner reads, before it fails on them without naming the key."""

from __future__ import annotations

import inspect
import logging
import math
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from vitdet_plugin.compat.versions import is_installed
from vitdet_plugin.config.check_arguments import wrong_arguments
from vitdet_plugin.config.dataset_config import SPLITS, split_datasets
from vitdet_plugin.config.registry import all_registries, as_list, is_coco_metric
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import is_whole
from vitdet_plugin.utils.text import suggest

_SECTION, _TYPED, _SWITCH = 'a section with keys', 'a section with a type', 'True or False'
_LOADER_PARTS = [f'{split}_dataloader.{part}' for split in SPLITS
                 for part in ('dataset', 'sampler', 'batch_sampler', 'collate_fn')]
_DEFAULTS = ('env_cfg', 'randomness', 'log_level')  # mmengine has defaults for them, but fails on None
_ANCHORS = ('scales', 'ratios', 'strides', 'base_sizes', 'octave_base_scale', 'scales_per_octave')
COCO_METRICS = ('bbox', 'segm', 'proposal')  # mmdet's proposal_fast does not work with NumPy 2


def check_values(cfg: Config) -> None:
    """Check that sections are sections, that names are known ones, and that switches are true or false.

    Keys with the value None, for which mmengine has a default, are removed from ``cfg``.

    Raises:
        UserError: Names the first key whose value is of another kind, and what to set.
    """
    for key in _DEFAULTS:
        if key in cfg and cfg[key] is None:
            cfg.pop(key)
    for key, value, expected in _faults(cfg):
        raise UserError(f'{cfg.filename or "config"}: {key} is {value!r}; set {expected}')


def _faults(cfg: Config) -> Iterator[tuple[str, Any, str]]:
    for key, fits, expected in _VALUES:
        yield from _check(cfg, key, fits, expected)
    for split in SPLITS:
        for path, dataset in split_datasets(cfg, split):
            steps = dataset.get('pipeline')
            if steps is not None and not isinstance(steps, (list, tuple)):
                yield f'{path}.pipeline', steps, 'a list of transforms'
    for name in cfg.get('default_hooks') or ():
        yield from _check(cfg, f'default_hooks.{name}', _is_section, f'{_TYPED}, or None')
        yield from _check(cfg, f'default_hooks.{name}.type', _is_hook, 'the name of a hook')
    for key in ('custom_hooks', 'param_scheduler', 'val_evaluator', 'test_evaluator'):
        value = cfg.get(key)
        is_list = isinstance(value, (list, tuple))
        for index, each in enumerate(value if is_list else ()):
            if not _is_section(each):
                yield f'{key}[{index}]', each, _TYPED
            elif key == 'custom_hooks' and isinstance(each, dict) and not _is_hook(each.get('type')):
                yield f'{key}[{index}].type', each['type'], 'the name of a hook'
        if not is_list and (not _is_section(value) or key == 'custom_hooks' and isinstance(value, dict)):
            yield key, value, f'a list of sections ([dict(type=…)]){"" if key == "custom_hooks" else ", or one"}'
    for key in ('val_evaluator', 'test_evaluator'):
        yield from _check_metrics(cfg, key)
    yield from _check_arguments(cfg._cfg_dict, '')


def _check_arguments(node: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield arguments of another kind than their class takes, floats that are not a number, and sizes up to 0."""
    for key, value, expected in wrong_arguments(node) if isinstance(node, dict) else ():
        yield f'{path}.{key}', value, expected
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        where = f'{path}.{key}' if path else str(key)
        if isinstance(value, float) and math.isnan(value):
            yield where, value, 'a number'
        if isinstance(value, (dict, list, tuple)):
            yield from _check_arguments(value, where)
        if key in _ANCHORS and path.rpartition('.')[2] == 'anchor_generator' and value is not None:
            numbers = list(_flat(value))
            if not numbers or any(isinstance(each, (int, float)) and each <= 0 for each in numbers):
                yield where, value, 'one or several numbers above 0'


def _flat(value: Any) -> Iterator[Any]:
    for each in value if isinstance(value, (list, tuple)) else [value]:
        yield from _flat(each) if isinstance(each, (list, tuple)) else [each]


def _check(cfg: Config, key: str, fits: Callable[[Any], bool], expected: str) -> Iterator[tuple[str, Any, str]]:
    node = _value(cfg, key)
    if node is not None and not fits(node):
        names = [word for word in expected.replace(',', '').split() if word not in ('a', 'or')]
        yield key, node, expected + (suggest(node, names) if isinstance(node, str) and ' or ' in expected else '')


def _value(cfg: Config, key: str) -> Any:
    """Return the value of a dotted key, or None."""
    node: Any = cfg._cfg_dict
    for part in key.split('.'):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _check_metrics(cfg: Config, key: str) -> Iterator[tuple[str, Any, str]]:
    evaluators = cfg.get(key)
    is_list = isinstance(evaluators, (list, tuple))
    for index, each in enumerate(as_list(evaluators)):
        if not isinstance(each, dict) or not is_coco_metric(each) or 'metric' not in each:
            continue
        value = each['metric']
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)) or not names or any(name not in COCO_METRICS for name in names):
            where = f'{key}[{index}].metric' if is_list else f'{key}.metric'
            yield where, value, f'one or several of {[*COCO_METRICS]}'


def _is_section(value: Any) -> bool:
    """Whether a value is a section, not set, or an object that was built already."""
    return value is None or not isinstance(value, (str, int, float, list, tuple))


def _has_type(value: Any) -> bool:
    return not isinstance(value, dict) or value.get('type') is not None


def _is_scope(value: Any) -> bool:
    """Whether registries have this scope, or may have it once a package of this name is imported."""
    return isinstance(value, str) and (any(each.scope == value for each in all_registries()) or is_installed(value))


def _is_hook(kind: Any) -> bool:
    """Whether a type names a hook; names that cannot be found are reported when it is built."""
    if isinstance(kind, str) and '.' in kind:  # may be any object of Python
        try:
            kind = HOOKS.get(kind)
        except Exception:
            return True
    return kind is None or isinstance(kind, str) or inspect.isclass(kind) and issubclass(kind, Hook)


def _is_switch(value: Any) -> bool:
    return isinstance(value, (bool, int))


def _one_of(*names: str) -> tuple[Callable[[Any], bool], str]:
    return names.__contains__, f'{", ".join(names[:-1])} or {names[-1]}'


_LEVELS = _one_of('CRITICAL', 'ERROR', 'WARNING', 'INFO', 'DEBUG')[1]
# keys, whether a value fits, and what to set instead; None passes
_VALUES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    *((key, _is_section, _SECTION) for key in (
        'model', *(f'{split}_{part}' for part in ('dataloader', 'cfg') for split in SPLITS), 'optim_wrapper',
        'default_hooks', 'env_cfg', 'visualizer', 'log_processor', 'randomness', 'auto_scale_lr', 'model_wrapper_cfg',
        'data_preprocessor', 'env_cfg.mp_cfg', 'env_cfg.dist_cfg')),
    *((key, _is_section, _TYPED) for key in ('optim_wrapper.optimizer', *_LOADER_PARTS)),
    *((key, _has_type, _TYPED) for key in ('model', *_LOADER_PARTS)),  # constructors of optimizers have other keys
    ('log_level', lambda value: value in logging.getLevelNamesMapping() or isinstance(value, int), _LEVELS),
    ('env_cfg.mp_cfg.mp_start_method', *_one_of(*multiprocessing.get_all_start_methods())),
    ('env_cfg.mp_cfg.opencv_num_threads', is_whole, 'a whole number'),
    ('default_scope', _is_scope, 'mmdet or mmpretrain'),
    ('sync_bn', *_one_of('torch', 'mmcv')),
    ('randomness.seed', lambda value: isinstance(value, int) and 0 <= value < 2**32,
     f'a whole number from 0 to {2**32 - 1}'),
    ('load_from', lambda value: value != '', 'a checkpoint file, or None'),
    ('resume', _is_switch, f'{_SWITCH}; name the checkpoint with --resume FILE, or as load_from next to resume=True'),
    *((f'{split}_dataloader.dataset.metainfo', _is_section, "a section: dict(classes=('a', 'b'))") for split in SPLITS),
    *((key, _is_switch, _SWITCH) for key in (
        'randomness.deterministic', 'find_unused_parameters', 'env_cfg.cudnn_benchmark')),
    ('compile', lambda value: isinstance(value, (bool, dict)), 'True, False or a section'))
