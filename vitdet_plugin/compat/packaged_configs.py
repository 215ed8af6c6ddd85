"""``vitdet_plugin::NAME`` as a config of this package, in ``_base_`` and in ``Config.fromfile``."""

import functools
from importlib import resources
from pathlib import Path

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

PREFIX = 'vitdet_plugin::'
_GET_PATH = Patch('mmengine.config.Config', '_get_cfg_path', upstream='mmengine >= 0.10',
                  why="vitdet_plugin:: names this package's configs; mmengine has a fixed list of packages")


def find_packaged_config(name: str) -> Path:
    """File of a config of this package.

    Args:
        name: File name with or without ``.py``, or path below ``configs/``, also to a part in ``_base_``.

    Raises:
        UserError: There is no such config; names similar ones.
    """
    folder = (Path(str(resources.files('vitdet_plugin'))) / 'configs').resolve()
    path = folder / (name if name.endswith('.py') else f'{name}.py')
    if path.is_file():
        return path
    known = {each.stem: each for each in folder.rglob('*.py') if '_base_' not in each.parts}
    if path.stem in known:
        return known[path.stem]
    raise UserError(f'config {PREFIX}{name} does not exist{suggest(path.stem, known)}')


def install() -> None:
    """Make ``vitdet_plugin::`` known to mmengine's config loader."""
    _GET_PATH.install(_with_packaged_configs)


def _with_packaged_configs(get_path):
    @functools.wraps(get_path)
    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(PREFIX):
            return str(find_packaged_config(cfg_path.removeprefix(PREFIX))), None
        return get_path(cfg_path, filename)
    return staticmethod(_GET_PATH.mark(get_cfg_path))
