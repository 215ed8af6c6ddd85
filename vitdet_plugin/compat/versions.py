"""Import the stack with one-line errors for incompatible versions, and without misleading output."""

import contextlib
import importlib
import importlib.util
import io
import sys

from vitdet_plugin.errors import UserError

FORKS = {'mmengine': 'onedl-mmengine', 'mmcv': 'onedl-mmcv', 'mmdet': 'onedl-mmdetection',
         'mmpretrain': 'onedl-mmpretrain'}


def is_installed(package: str) -> bool:
    """Whether a top-level package can be found; it is not imported."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # ValueError: a module that a test or a script put into sys.modules
        return package in sys.modules


def require_scope(scope: str) -> None:
    """Import what configs of a default scope need: mmcv, and the data sets of mmdet or mmpretrain.

    Raises:
        UserError: See `require`.
    """
    if scope in ('mmdet', 'mmpretrain'):
        require('mmcv')
        require(f'{scope}.datasets')


def require(module: str) -> None:
    """Import a module of the stack.

    Raises:
        UserError: It is missing, or its version does not fit the others (OpenMMLab packages assert that on import).
    """
    package = module.partition('.')[0]
    try:
        # onedl-mmdetection prints that an optional data service is absent, each time
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise UserError(f'{package} needs the package {error.name}, which is not installed: '
                            f'pip install {error.name}') from error
        raise UserError(f'{package} is not installed: pip install {FORKS[package]}') from error
    except AssertionError as error:
        raise UserError(f'{package} cannot work with the other installed packages: {error} '
                        'pip install "vitdet-plugin[openmmlab]" installs versions that work together') from error
