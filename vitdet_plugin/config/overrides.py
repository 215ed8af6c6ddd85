"""Options that name variables of a config: everything that the file computes from them follows."""

from collections.abc import Collection, Mapping
from typing import Any

from mmengine.config import Config

from vitdet_plugin.compat import packaged_configs
from vitdet_plugin.config.options import READ_KEYS, check_top_level, checked_option, keys_with_ending, similar_keys
from vitdet_plugin.config.variables import Variables, evaluate_config, with_option
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import suppress_logs, warn

# Dictionaries and lists that a runner reads are merged afterwards: test_dataloader = val_dataloader is not an alias.
_SECTIONS = READ_KEYS - {'data_preprocessor'}  # the model may refer to that one


def check_option_keys(path: str, keys: Collection[str]) -> None:
    """Check the first part of the keys of ``--cfg-options`` without importing mmdet; a broken config is ignored here.

    Raises:
        UserError: There is no such key; names similar ones.
    """
    packaged_configs.install()
    variables = Variables({})
    try:
        with suppress_logs():
            if Config._is_lazy_import(path):
                return
            cfg = evaluate_config(path, variables)
    except (Exception, SystemExit):  # reported when the config is read
        return
    check_top_level(cfg, keys, variables.assigned)


def override_variables(cfg: Config, options: Mapping[str, Any], is_changed: bool = False
                       ) -> tuple[Config, dict[str, Any]]:
    """Evaluate the file of a config again with the options that name variables.

    A variable is a top-level name that no runner reads, or one that a runner reads as a plain value. An option that
    names one changes everything that the files compute from it.

    Args:
        cfg: Config without options.
        options: Dotted keys and values.
        is_changed: Whether ``cfg`` differs from its file, so that the file cannot be evaluated instead.

    Returns:
        The config, and the options that are left to merge.

    Raises:
        UserError: An option would change nothing.
        Exception: Anything that the files raise with the new values.
    """
    variables = Variables({}, _SECTIONS)
    is_lazy = not is_changed and Config._is_lazy_import(cfg.filename)
    can_evaluate = not (is_changed or is_lazy)
    named = {key: value for key, value in options.items() if _names_variable(cfg, key)}
    if not named:
        return cfg, dict(options)
    if can_evaluate:
        with suppress_logs():
            evaluate_config(cfg.filename, variables)
    check_top_level(cfg, named, variables.assigned)
    named = {key: checked_option(cfg, key, value) if _root(key) in cfg else value for key, value in named.items()}
    changing = [key for key, value in named.items() if _changes(cfg, key, value)]
    for key in changing:
        if _root(key) not in variables.used | READ_KEYS:
            raise UserError(f'--cfg-options {key}: {_why_unused(cfg, key, is_lazy, is_changed)}'
                            f'{similar_keys(cfg, key) or "; set the keys that are used"}')
    if not changing or not can_evaluate:
        return cfg, dict(options)
    with suppress_logs():
        changed = evaluate_config(cfg.filename, Variables(named, _SECTIONS))
    names = {_root(key) for key in changing}
    is_warned = _warn_about_kept_values(changed, {key: named[key] for key in changing})
    if not is_warned and not names & READ_KEYS and _text(cfg, without=names) == _text(changed, without=names):
        warn(f'--cfg-options {", ".join(changing)}: changes nothing, because {cfg.filename} sets the keys that were '
             'computed from it to other values')
    return changed, {key: value for key, value in {**options, **named}.items()
                     if _root(key) in changed or _root(key) in READ_KEYS}


def _warn_about_kept_values(changed: Config, options: Mapping[str, Any]) -> bool:
    """Print a line for each variable whose value no key of the same name in the sections has; return if there was one.
    """
    is_warned = False
    for key, value in options.items():
        found = list(keys_with_ending(changed, key))
        if found and _root(key) not in READ_KEYS and not any(_same(node, value) for _, node in found):
            shown = ', '.join(f'{path} ({node!r})' for path, node in found[:3])
            warn(f'--cfg-options {key}={value}: no key of a section takes this value, since the config sets them to '
                 f'other values; did you mean {shown}?')
            is_warned = True
    return is_warned


def _same(one: Any, other: Any) -> bool:
    return list(one) == list(other) if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) else \
        bool(one == other)


def _root(key: str) -> str:
    return key.split('.')[0]


def _names_variable(cfg: Config, key: str) -> bool:
    root = _root(key)
    return root not in _SECTIONS or root in cfg and not isinstance(cfg._cfg_dict[root], (dict, list, tuple))


def _changes(cfg: Config, key: str, value: Any) -> bool:
    root, *parts = key.split('.')
    if root not in cfg:
        return True
    try:
        return with_option(cfg._cfg_dict[root], parts, value) != cfg._cfg_dict[root]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise UserError(f'--cfg-options {key}: {" ".join(str(error).split())}') from error


def _text(cfg: Config, without: Collection[str]) -> str:
    return str({name: value for name, value in cfg._cfg_dict.items() if name not in without})


def _why_unused(cfg: Config, key: str, is_lazy: bool, is_changed: bool) -> str:
    if is_lazy:
        return f'{cfg.filename} is a config in pure Python (read_base), whose variables are read before the options'
    if is_changed:
        return f'{_root(key)!r} was read when the config was loaded'
    return f'nothing in {cfg.filename} is computed from {_root(key)!r}'
