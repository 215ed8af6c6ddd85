"""Importing this module registers every class of the package; call `vitdet_plugin.register_all` instead."""

from vitdet_plugin import compat
from vitdet_plugin.utils.registering import import_registering_modules

# without mmcv or mmdet: backbones and other modules that do not need them
import_registering_modules(skip_incomplete=not compat.install())
