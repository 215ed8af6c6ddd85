"""``--cfg-options``: change a config from the command line, with checks of the keys."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from vitdet_plugin.config.accepted_keys import ANY, SECTIONS, accepted_keys
from vitdet_plugin.config.option_words import parse_value, split_options
from vitdet_plugin.config.variables import with_option
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

# Top-level keys that mmengine's Runner reads; written down because its import takes seconds.
_RUNNER_KEYS = frozenset({
    'model', 'work_dir', 'train_dataloader', 'val_dataloader', 'test_dataloader', 'train_cfg', 'val_cfg', 'test_cfg',
    'auto_scale_lr', 'optim_wrapper', 'param_scheduler', 'val_evaluator', 'test_evaluator', 'default_hooks',
    'custom_hooks', 'data_preprocessor', 'load_from', 'resume', 'launcher', 'env_cfg', 'log_processor', 'log_level',
    'visualizer', 'default_scope', 'randomness', 'experiment_name', 'cfg'})
# Optional top-level keys that a runner or a tool reads.
_TOOL_KEYS = frozenset({
    'compile', 'sync_bn', 'find_unused_parameters', 'efficient_conv_bn_eval', 'activation_checkpointing',
    'model_wrapper_cfg', 'strategy', 'runner_type', 'tta_model', 'tta_pipeline', 'custom_imports', 'fp16',
    'channels_last'})
READ_KEYS = _RUNNER_KEYS | _TOOL_KEYS
# Keys of mmdet 2 -> those of mmdet 3.
_OLD_KEYS = {'optimizer': 'optim_wrapper.optimizer', 'optimizer_config': 'optim_wrapper',
             'lr_config': 'param_scheduler', 'data': 'train_dataloader',
             'evaluation': 'val_evaluator, train_cfg.val_interval and default_hooks.checkpoint',
             'total_epochs': 'train_cfg.max_epochs', 'runner': 'train_cfg', 'seed': 'randomness.seed',
             'checkpoint_config': 'default_hooks.checkpoint', 'log_config': 'default_hooks.logger',
             'resume_from': '--resume', 'gpu_ids': 'CUDA_VISIBLE_DEVICES', 'deterministic': 'randomness.deterministic'}


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """Turn ``['a.b=1', 'c=[x,y]']`` into ``{'a.b': 1, 'c': ['x', 'y']}``; see :func:`parse_value`.

    Raises:
        UserError: A string has no ``=``, brackets do not match, or a dictionary is not valid.
    """
    options = {}
    for key, text in split_options(words).items():
        options[key] = value = parse_value(text)
        if isinstance(value, str) and value.startswith(('{', 'dict(')) and value == text.strip():
            raise UserError(f"--cfg-options {key}={text}: not a dictionary; write {{'name': value}} or dict(name=value)"
                            f', or set {key}.NAME=…')
    return options


def apply_options(cfg: Config, options: Mapping[str, Any]) -> None:
    """Merge options into ``cfg`` in place. A key that nothing reads is an error.

    Raises:
        UserError: Unknown key (with similar ones), list index out of range, or text instead of a number.
    """
    for key, value in options.items():
        value = checked_option(cfg, key, value)
        root, *parts = key.split('.')
        try:
            cfg[root] = with_option(cfg._cfg_dict.get(root), parts, value)
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise UserError(f'--cfg-options {key}: {" ".join(str(error).split())}') from error


def check_top_level(cfg: Config, keys: Collection[str], variables: Collection[str] = ()) -> None:
    """Check the first part of option keys.

    Args:
        cfg: Config that is to be changed.
        keys: Dotted keys.
        variables: Names that are accepted although the config has no such key.

    Raises:
        UserError: There is no such key; names similar ones.
    """
    for key in keys:
        root = key.split('.')[0]
        if root not in cfg and root not in variables and root not in READ_KEYS:
            hint = f' (in mmdet 3: {_OLD_KEYS[root]})' if root in _OLD_KEYS else suggest(
                root, {*cfg, *READ_KEYS, *variables})
            raise UserError(f'--cfg-options {key}: the config has no key {root!r}{hint}{similar_keys(cfg, key)}')


def similar_keys(cfg: Config, key: str) -> str:
    """Return a hint with up to three keys of the sections that end with the same names as ``key``, or an empty text."""
    found = list(itertools.islice(keys_with_ending(cfg, key), 3))
    return f'; set the keys that are used: {", ".join(path for path, _ in found)}' if found else ''


def keys_with_ending(cfg: Config, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys of the sections that end with the same names as ``key``, and their values."""
    queue: list[tuple[str, Any]] = [(name, value) for name, value in cfg._cfg_dict.items() if name in READ_KEYS]
    while queue:
        path, node = queue.pop(0)
        if path.endswith(f'.{key}'):
            yield path, node
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
        queue += [(f'{path}.{name}', value) for name, value in items]


def checked_option(cfg: Config, key: str, value: Any) -> Any:
    """Return the value for ``cfg``, text converted to the number that the config has there.

    Raises:
        UserError: Unknown key (with similar ones), list index out of range, or text instead of a number.
    """
    check_top_level(cfg, [key])
    node: Any = cfg._cfg_dict
    parts = key.split('.')
    is_new = False  # below a key that the config does not have
    for depth, part in enumerate(parts):
        here = '.'.join(parts[:depth]) or 'the config'
        if isinstance(node, (list, tuple)):
            if not part.isdigit() or int(part) >= len(node):
                raise UserError(f'--cfg-options {key}: {here} is a list of {len(node)}. Give an index below that')
            node = node[int(part)]
        elif isinstance(node, dict) or node is None:  # None means "not set"
            is_new = is_new or node is None
            if depth and part not in (node or {}):
                _check_new_key(node or {}, part, here, key, may_be_unknown=is_new or depth == len(parts) - 1)
            is_new = is_new or part not in node
            node = None if is_new else node[part]
        else:
            raise UserError(f'--cfg-options {key}: {here} is {node!r} and has no keys; set it as a whole')
    if depth == 0 and parts[0] in READ_KEYS and isinstance(node, dict) and isinstance(value, (str, int, float)):
        raise UserError(f'--cfg-options {key}={value}: the config has a section here; set its keys, such as {key}.'
                        f'{next(iter(node), "KEY")}=…')
    is_plain = isinstance(value, (str, int, float)) and not isinstance(value, bool) or (
        isinstance(value, (list, tuple)) and not any(isinstance(each, dict) for each in value))
    if isinstance(node, dict) and 'type' in node and is_plain:
        raise UserError(f'--cfg-options {key}={value}: the config has a section of type {node["type"]} here; set its '
                        f'keys, such as {key}.type=…')
    if isinstance(value, str) and isinstance(node, (int, float)):
        number = parse_value(value)
        if isinstance(number, (int, float)):
            return number
        raise UserError(f'--cfg-options {key}={value}: the config has a number here ({node!r}); give a number')
    return value


def _check_new_key(node: dict, part: str, here: str, key: str, may_be_unknown: bool) -> None:
    accepted = accepted_keys(node, here)
    names = accepted or set()
    if part == '_delete_' or part in names or names == {ANY, SECTIONS}:
        return
    strict = accepted is not None and ANY not in names
    hint = suggest(part, set(node) | names - {ANY, SECTIONS}, cutoff=0.6 if strict else 0.7)
    if strict or hint or not may_be_unknown and SECTIONS not in names:
        raise UserError(f'--cfg-options {key}: {here} has no key {part!r}{hint}')
