"""ViTDet and other strong backbones for mmdetection and mmpretrain.

Importing the package makes the OpenMMLab stack run on this machine (``compat``) and then registers every module of
the subpackages below; a class with a registry decorator needs no entry in any list.
"""

import importlib
import pkgutil

from vitdet_plugin import compat

__version__ = '0.1.0'

_SUBPACKAGES = ('layers', 'backbones', 'necks', 'heads', 'checkpoints', 'transforms', 'datasets', 'engine',
                'evaluation', 'visualization')


def _register_all() -> None:
    for subpackage in _SUBPACKAGES:
        package = importlib.import_module(f'{__name__}.{subpackage}')
        for module in pkgutil.iter_modules(package.__path__, f'{package.__name__}.'):
            importlib.import_module(module.name)


compat.install()  # before anything imports mmcv.ops
_register_all()
