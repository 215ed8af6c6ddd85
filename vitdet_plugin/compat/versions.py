"""Import the stack with one clear line where it cannot work, and without messages that mislead."""

import contextlib
import importlib
import io

from vitdet_plugin.errors import UserError

_INSTALL = {'mmengine': 'onedl-mmengine', 'mmcv': 'onedl-mmcv', 'mmdet': 'onedl-mmdetection'}


def require(module: str) -> None:
    """Import a module of the stack.

    Raises:
        UserError: it is missing, or its version does not fit the others (OpenMMLab packages assert that on import).
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
        raise UserError(f'{package} is not installed: pip install {_INSTALL[package]}') from error
    except AssertionError as error:
        raise UserError(f'{package} cannot work with what is installed beside it: {error} '
                        'requirements/default.txt lists versions that work together') from error
