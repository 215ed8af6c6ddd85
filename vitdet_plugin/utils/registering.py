"""Find and import the modules that register something in mmengine's registries."""

import re
from importlib import import_module
from pathlib import Path

from vitdet_plugin.errors import UserError

_ROOT = Path(__file__).resolve().parents[1]
_REGISTERS = re.compile(r'^@?\w+\.register_module\(', re.MULTILINE)


def registering_modules(subpackage: str = '*') -> list[str]:
    """Dotted names of the modules whose source registers something, sorted.

    The sources are read, not imported, so a new class needs its decorator only, and modules without one (reports,
    plots, checks, export) are loaded when they are used.

    Args:
        subpackage: Name of a subpackage; all of them by default.
    """
    packages = [path.parent for path in _ROOT.glob(f'{subpackage}/__init__.py')]
    paths = sorted(path for package in packages for path in package.rglob('*.py'))
    return ['.'.join((_ROOT.name, *path.relative_to(_ROOT).with_suffix('').parts))
            for path in paths if _REGISTERS.search(path.read_text(encoding='utf-8'))]


def import_registering_modules(subpackage: str = '*', skip_incomplete: bool = False) -> None:
    """Import the modules that `registering_modules` names.

    Args:
        subpackage: Name of a subpackage; all of them by default.
        skip_incomplete: Skip modules that need a package which is not installed.

    Raises:
        UserError: Such a package is missing and ``skip_incomplete`` is False.
    """
    for name in registering_modules(subpackage):
        try:
            import_module(name)
        except ModuleNotFoundError as error:
            missing = error.name or ''
            if missing.partition('.')[0] == _ROOT.name:
                raise
            if not skip_incomplete:
                raise UserError(f'{name} needs the package {missing}, which is not installed: '
                                f'pip install {missing}') from error
