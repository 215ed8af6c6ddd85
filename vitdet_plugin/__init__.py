"""ViTDet and other strong backbones for mmdetection and mmpretrain.

Importing the package makes the OpenMMLab stack run on this machine (``compat``) and then registers every module of
the rooms below; a class with a registry decorator needs no entry in any list.
"""

import importlib
import pkgutil

from vitdet_plugin import compat

__version__ = '0.1.0'

_ROOMS = ('layers', 'backbones', 'necks', 'heads', 'checkpoints', 'checks', 'engine', 'data', 'evaluation',
          'visualization')


def _register_all() -> None:
    for room in _ROOMS:
        package = importlib.import_module(f'{__name__}.{room}')
        for module in pkgutil.iter_modules(package.__path__, f'{package.__name__}.'):
            importlib.import_module(module.name)


compat.install()  # before anything imports mmcv.ops
_register_all()
