"""A replacement of ``mmcv._ext`` where mmcv was installed without its compiled operators.

A finder at the end of ``sys.meta_path`` provides ``mmcv._ext`` only when no other finder does, so a compiled extension
is always preferred and used unchanged. The stand-in has torchvision's operators under mmcv's names. An operator that it
lacks raises an error of one line when it is called, not when ``mmcv.ops`` is imported.
"""

import importlib
import importlib.abc
import importlib.machinery
import pkgutil
import sys
from collections.abc import Callable
from types import ModuleType

import torch

from vitdet_plugin.compat import deform_conv, focal_loss, ms_deform_attn, nms, roi_align
from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.errors import UserError

EXT = 'mmcv._ext'
_HOW_TO_GET = 'build mmcv with its operators (pip install --no-build-isolation --no-cache-dir mmcv, needs a compiler)'


def _get_compiler_version() -> str:
    return 'none: torchvision operators as mmcv._ext'


def _get_compiling_cuda_version() -> str:
    return torch.version.cuda or 'not available'


_OPS = {
    'nms': nms.nms,
    'softnms': nms.softnms,
    'roi_align_forward': roi_align.roi_align_forward,
    'roi_align_backward': roi_align.roi_align_backward,
    'deform_conv_forward': deform_conv.deform_conv_forward,
    'deform_conv_backward_input': deform_conv.deform_conv_backward_input,
    'deform_conv_backward_parameters': deform_conv.deform_conv_backward_parameters,
    'modulated_deform_conv_forward': deform_conv.modulated_deform_conv_forward,
    'modulated_deform_conv_backward': deform_conv.modulated_deform_conv_backward,
    'ms_deform_attn_forward': ms_deform_attn.ms_deform_attn_forward,
    'ms_deform_attn_backward': ms_deform_attn.ms_deform_attn_backward,
    'sigmoid_focal_loss_forward': focal_loss.sigmoid_focal_loss_forward,
    'sigmoid_focal_loss_backward': focal_loss.sigmoid_focal_loss_backward,
    'get_compiler_version': _get_compiler_version,
    'get_compiling_cuda_version': _get_compiling_cuda_version,
}


def _missing(name: str) -> Callable:
    def missing_op(*args, **kwargs):
        raise UserError(f'operator mmcv._ext.{name} is not available: this mmcv has no compiled operators and '
                        f'none takes its place here; {_HOW_TO_GET}')

    missing_op.__name__ = name
    return missing_op


class StandIn(ModuleType):
    """``mmcv._ext`` made of torchvision's operators; any other public name is a function that raises `UserError`."""

    def __init__(self):
        super().__init__(EXT, __doc__)
        self.__dict__.update(_OPS)

    def __getattr__(self, name: str) -> Callable:
        if name.startswith('__'):
            raise AttributeError(name)
        return _missing(name)


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, fullname, path=None, target=None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self, origin='vitdet_plugin') if fullname == EXT else None

    def create_module(self, spec) -> StandIn:
        return StandIn()

    def exec_module(self, module) -> None:
        """Do nothing: the module is complete when it is created."""


_PATCH = Patch('mmcv', '_ext', upstream='mmcv 2.1, onedl-mmcv 2.3',
               why='does not exist where mmcv has no compiled operators; torchvision has the ones that are needed')


def is_stand_in() -> bool:
    """Whether ``mmcv._ext`` is the stand-in rather than a compiled extension."""
    return isinstance(importlib.import_module(EXT), StandIn)


def install() -> None:
    """Make ``mmcv.ops`` importable. Raises `UserError` where a compiled extension exists but does not load."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
    try:
        importlib.import_module(EXT)
    except ImportError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f'the compiled operators of mmcv do not load with torch {torch.__version__} ({reason}): '
                        'reinstall mmcv for this torch, or without operators (pip install onedl-mmcv)') from error
    _PATCH.installed = is_stand_in()
    _complete_early_imports()


def _complete_early_imports() -> None:
    """Set the operators in modules that were imported before the stand-in.

    mmcv's transformer module lacks a class then, and mmdet's modules hold functions that raise instead of operators.
    """
    early = sys.modules.get('mmcv.cnn.bricks.transformer')
    if early is not None and not hasattr(early, 'MultiScaleDeformableAttention'):
        ops = importlib.import_module('mmcv.ops.multi_scale_deform_attn')
        early.MultiScaleDeformableAttention = ops.MultiScaleDeformableAttention
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith('mmdet.'):
            for name, value in list(vars(module).items()):
                if getattr(value, '__module__', None) == module_name and _only_raises(value):
                    setattr(module, name, _operator(name))


def _operator(name: str) -> object:
    """Return an operator by its name in a module of mmdet, which may begin with ``_``."""
    ops, name = importlib.import_module('mmcv.ops'), name.lstrip('_')
    if hasattr(ops, name):
        return getattr(ops, name)
    modules = (importlib.import_module(f'mmcv.ops.{each.name}') for each in pkgutil.iter_modules(ops.__path__))
    return next(getattr(module, name) for module in modules if hasattr(module, name))


def _only_raises(value: object) -> bool:
    """Whether a function or class is a placeholder that says mmcv was not compiled with operators."""
    code = getattr(value.__init__ if isinstance(value, type) else value, '__code__', None)
    return code is not None and any(isinstance(text, str) and 'requires mmcv to be compiled' in text
                                    for text in code.co_consts)
