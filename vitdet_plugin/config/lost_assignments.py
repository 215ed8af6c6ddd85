"""Variables that a config file sets again, although its bases have computed other keys from them before."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

from mmengine.config import Config

from vitdet_plugin.compat.packaged_configs import config_dir
from vitdet_plugin.config.options import READ_KEYS
from vitdet_plugin.config.variables import Variables, evaluate_config
from vitdet_plugin.utils.output import suppress_logs, warn

_warned: set[tuple[str, str]] = set()


def warn_about_lost_assignments(cfg: Config) -> None:
    """Print a line for each plain variable whose new value does not reach what the bases computed from the old one.

    mmengine evaluates a base before the file that inherits from it. Nothing is printed if the file sets those keys to
    the same values itself, and for configs within packages.

    Args:
        cfg: Config as it was read from its file.
    """
    file = Path(cfg.filename).resolve()
    if '.mim' in file.parts or file.is_relative_to(config_dir().resolve()):
        return
    try:
        names = _plain_assignments(file) & {name for name in cfg if name not in READ_KEYS}
        if not names or Config._is_lazy_import(cfg.filename):
            return
        with suppress_logs():
            if _is_same(cfg, names):
                return
            for name in sorted(names):
                if not _is_same(cfg, {name}) and (cfg.filename, name) not in _warned:
                    _warned.add((cfg.filename, name))
                    warn(f'{cfg.filename} sets {name} = {cfg[name]!r}, but its base computed other keys from {name} '
                         f'before, and they keep their values; use --cfg-options {name}=…, or set those keys')
    except Exception:  # anything that a file raises is reported where it is read
        return


def _is_same(cfg: Config, names: Collection[str]) -> bool:
    """Whether the config is the same if its bases, too, have the values that the file gives to these variables."""
    return evaluate_config(cfg.filename, Variables({name: cfg[name] for name in names}))._cfg_dict == cfg._cfg_dict


def _plain_assignments(file: Path) -> set[str]:
    """Return the names at the top level that are set to literals; none for a file without a base."""
    names: set[str] = set()
    has_base = False
    for statement in ast.parse(file.read_text(encoding='utf-8')).body:
        for target in statement.targets if isinstance(statement, ast.Assign) else ():
            pairs = [(target, statement.value)]
            if isinstance(target, ast.Tuple) and isinstance(statement.value, ast.Tuple):
                pairs = list(zip(target.elts, statement.value.elts))
            for each, value in pairs:
                if isinstance(each, ast.Name):
                    has_base = has_base or each.id == '_base_'
                    names |= {each.id} if isinstance(value, (ast.Constant, ast.UnaryOp)) else set()
    return names - {'_base_'} if has_base else set()
