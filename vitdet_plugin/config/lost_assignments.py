"""Variables that a config file sets again, although its bases have computed other keys from them before."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path

from mmengine.config import Config

from vitdet_plugin.compat.packaged_configs import config_dir
from vitdet_plugin.config.options import READ_KEYS
from vitdet_plugin.config.variables import Variables, evaluate_config, names_bound
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
        names = {name for name in _literal_assignments(file) if name in cfg and name not in READ_KEYS
                 and not isinstance(cfg[name], (dict, list, tuple))}
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
    except (Exception, SystemExit):  # anything that a file raises is reported where it is read
        return


def _is_same(cfg: Config, names: Collection[str]) -> bool:
    """Whether all that is read is the same if the bases have these values, too."""
    other = evaluate_config(cfg.filename, Variables({name: cfg[name] for name in names}))._cfg_dict
    return all(other.get(key) == cfg._cfg_dict.get(key) for key in READ_KEYS)


def _literal_assignments(file: Path) -> set[str]:
    """Return the names at the top level that are set to literals; none for a file without a base."""
    statements = ast.parse(file.read_text(encoding='utf-8')).body
    if not any('_base_' in names_bound(each) for each in statements):
        return set()
    return {name for each in statements if isinstance(each, ast.Assign) and _is_literal(each.value)
            for name in names_bound(each)}


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True
