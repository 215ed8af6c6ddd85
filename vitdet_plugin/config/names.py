"""Names of configs: those that this package ships, files, and configs of other packages (``mmdet::…``)."""

from functools import cache
from importlib import resources
from pathlib import Path

from vitdet_plugin.compat.packaged_configs import PREFIX, find_packaged_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest


def config_dir() -> Path:
    """Folder of the shipped configs, in a checkout and in an installed wheel alike."""
    return Path(str(resources.files('vitdet_plugin'))) / 'configs'


@cache
def shipped_configs() -> dict[str, Path]:
    """Name (file name without ``.py``) -> file of every shipped config."""
    folder = config_dir().resolve()
    return {path.stem: path for path in sorted(folder.rglob('*.py')) if '_base_' not in path.parts}


def find_config(path: str) -> str:
    """File of a config.

    Args:
        path: A file, the name of a shipped config (``vitdet_demo``), or ``PACKAGE::PATH`` for one that an installed
            package ships.

    Raises:
        UserError: There is no such config; names similar ones.
    """
    if path.startswith(PREFIX):
        return str(find_packaged_config(path.removeprefix(PREFIX)))
    if '::' in path:
        from mmengine.config import Config  # slow, and only needed here
        try:
            return Config._get_cfg_path(path, str(Path.cwd() / 'config.py'))[0]
        except Exception as error:
            raise UserError(f'config {path}: not among the configs of the package before "::" ({error})') from error
    if Path(path).expanduser().is_file():
        if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
            raise UserError(f'config {path}: a config is a .py, .json or .yaml file'
                            + ('; for a checkpoint write the config before it' if path.endswith('.pth') else ''))
        return path
    known = shipped_configs()
    if path in known:
        return str(known[path])
    stem = Path(path).stem if path.endswith('.py') else path
    raise UserError(f'config {path} does not exist{suggest(stem, known)}; give a file or the name of a shipped config')
