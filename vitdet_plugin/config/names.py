"""Names of configs: those that this package ships, files, and configs of other packages (``mmdet::…``)."""

from functools import cache
from pathlib import Path

from vitdet_plugin.compat.file_kinds import has_weight_suffix
from vitdet_plugin.compat.packaged_configs import PREFIX, config_dir, find_packaged_config, shipped_configs
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.text import suggest

OWN_CONFIG = 'config.py'  # in a folder of ``vitdet init``
# Former folder under configs/ -> current one. Old paths work until the next release.
MOVED_FOLDERS = {'convnext_yolov5': 'yolov5'}


def find_config(path: str) -> str:
    """Return the file of a config.

    Args:
        path: A file, a folder of ``vitdet init`` or of a training run, the name of a shipped config (``vitdet_demo``),
            or ``PACKAGE::PATH`` for a config of an installed package. A path that a shipped config had in the last
            release is accepted with a notice on stderr.

    Raises:
        UserError: There is no such config. The message lists similar names.
    """
    if path.startswith(PREFIX):
        return str(find_packaged_config(path.removeprefix(PREFIX)))
    if '::' in path:
        from mmengine.config import Config  # slow, and only needed here
        try:
            return Config._get_cfg_path(path, str(Path.cwd() / 'config.py'))[0]
        except Exception as error:
            raise UserError(f'config {path}: not found in the package before "::" ({error})') from error
    if Path(path).expanduser().is_file():
        if Path(path).suffix not in ('.py', '.json', '.yaml', '.yml'):
            raise UserError(f'config {path}: a config is a .py, .json or .yaml file'
                            + ('. Give the config before the checkpoint' if has_weight_suffix(path) else ''))
        return path
    known = shipped_configs()
    if path in known:
        return str(known[path])
    if Path(path).expanduser().is_dir():
        return str(config_of_folder(Path(path).expanduser()))
    if new_path := moved_config(path):
        _print_notice(path, new_path)
        return new_path
    stem = Path(path).stem if path.endswith('.py') else path
    raise UserError(f'config {path} does not exist{suggest(stem, known)}. Give a file or the name of a shipped config')


def config_of_folder(folder: Path) -> Path:
    """Return the config in a folder: ``config.py``, or the only file of that kind.

    Raises:
        UserError: There is none, or there are several.
    """
    found = configs_in(folder)
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f'{folder} holds {len(found)} configs ({", ".join(path.name for path in found[:3])}); give one '
                        'of these files')
    raise UserError(f'{folder} holds no config; give a config file, or a folder that "vitdet init" or "vitdet train" '
                    'has written')


def configs_in(folder: Path) -> list[Path]:
    """Return what may be the config of a folder: ``config.py`` alone, or all files of that kind."""
    if (folder / OWN_CONFIG).is_file():
        return [folder / OWN_CONFIG]
    return sorted(path for path in folder.glob('*.py') if not path.name.startswith('.'))


def moved_config(path: str) -> str | None:
    """Return the current file of a config that ``path`` named in the last release, or None."""
    old = Path(path).expanduser()
    folder = MOVED_FOLDERS.get(old.parent.name)
    if folder is None:
        return None
    name = old.name if old.suffix == '.py' else f'{old.name}.py'
    for root in (old.parent.parent, config_dir().resolve()):
        if (root / folder / name).is_file():
            return str(root / folder / name)
    return None


@cache  # one notice per process and path
def _print_notice(path: str, new_path: str) -> None:
    warn(f'config {path} has moved: use {new_path}. The old path works until the next release.')
