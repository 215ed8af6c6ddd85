"""``vitdet_plugin::NAME`` as a config of this package, in ``_base_`` and in ``Config.fromfile``."""

import functools
import os
import sys
from importlib import resources
from pathlib import Path

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

PREFIX = 'vitdet_plugin::'
_GET_PATH = Patch('mmengine.config.Config', '_get_cfg_path', upstream='mmengine >= 0.10',
                  why="vitdet_plugin:: names this package's configs; mmengine has a fixed list of packages, and "
                      'follows a circular _base_ until the stack is full')


def config_dir() -> Path:
    """Return the folder of the shipped configs, in a checkout or in an installed wheel."""
    return Path(str(resources.files('vitdet_plugin'))) / 'configs'


@functools.cache
def shipped_configs() -> dict[str, Path]:
    """Map the name (file name without ``.py``) of every shipped config to its file."""
    folder = config_dir().resolve()
    return {path.stem: path for path in sorted(folder.rglob('*.py')) if '_base_' not in path.parts}


def find_packaged_config(name: str) -> Path:
    """File of a config of this package.

    Args:
        name: File name with or without ``.py``, or path below ``configs/``, also to a part in ``_base_``.

    Raises:
        UserError: There is no such config; names similar ones.
    """
    path = config_dir().resolve() / (name if name.endswith('.py') else f'{name}.py')
    if path.is_file():
        return path
    known = shipped_configs()
    if path.stem in known:
        return known[path.stem]
    raise UserError(f'config {PREFIX}{name} does not exist{suggest(path.stem, known)}')


def install() -> None:
    """Make ``vitdet_plugin::`` known to mmengine's config loader."""
    _GET_PATH.install(_with_packaged_configs)


def _with_packaged_configs(get_path):
    @functools.wraps(get_path)
    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not isinstance(cfg_path, str):
            raise UserError(f'config {filename}: _base_ has {cfg_path!r}; give a path or a list of paths')
        found = find_path(cfg_path, filename)
        _refuse_circle(found[0])
        return found

    def find_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(PREFIX):
            return str(find_packaged_config(cfg_path.removeprefix(PREFIX))), None
        return get_path(cfg_path, filename)
    return staticmethod(_GET_PATH.mark(get_cfg_path))


def _refuse_circle(path: str) -> None:
    """Check that a base is not one of the configs that are being read: their names are in the frames of mmengine.

    Raises:
        UserError: It is; with the chain of files.
    """
    chain, frame = [os.path.abspath(path)], sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == '_file2dict':
            chain.append(os.path.abspath(os.path.expanduser(frame.f_locals['filename'])))
            if os.path.realpath(chain[-1]) == os.path.realpath(path):
                raise UserError(f'circular _base_: {" -> ".join(reversed(chain))}; remove one of these')
        frame = frame.f_back
