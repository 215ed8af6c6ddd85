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
        if cfg_path.startswith(PREFIX):
            return str(find_packaged_config(cfg_path.removeprefix(PREFIX))), None
        return get_path(cfg_path, filename)
    return staticmethod(_GET_PATH.mark(get_cfg_path))
