"""The keys that a section of a config may have: arguments of its type, and keys that its builder reads itself."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from vitdet_plugin.config.registry import all_registries

ANY = '**'  # other keys are accepted as well
SECTIONS = '**.*'  # so are other sections
# Factors that mmengine's, mmdet's and mmpretrain's constructors read.
_PARAMWISE = ('norm_decay_mult', 'bias_decay_mult', 'dwconv_decay_mult', 'flat_decay_mult', 'bias_lr_mult',
              'dcn_offset_lr_mult', 'bypass_duplicate', 'custom_keys', 'decay_rate', 'decay_type', 'num_layers',
              'layer_decay_rate')
# Sections without a type -> their keys.
_KEYS: dict[str, tuple[str, ...]] = {
    'auto_scale_lr': ('enable', 'base_batch_size'),
    'custom_imports': ('imports', 'allow_failed_imports'),
    'default_hooks': ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint',
                      'visualization', ANY, SECTIONS),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'env_cfg.dist_cfg': ('backend', 'init_backend', 'timeout', 'init_method', 'port', ANY),
    'env_cfg.mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'model.train_cfg': ('augments', ANY),
    'optim_wrapper.clip_grad': ('type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value'),
    'optim_wrapper.paramwise_cfg': (*_PARAMWISE, ANY),
    'optim_wrapper.paramwise_cfg.custom_keys': (ANY, SECTIONS),
}
_LAYERS = ('torch.nn.', 'mmcv.', 'mmdet.models.layers', 'mmpretrain.models.utils')


def accepted_keys(node: Mapping, path: str) -> set[str] | None:
    """Return the keys that a section may have.

    Args:
        node: The section; its ``type`` is a name, a class or a function.
        path: Its dotted key in the config.

    Returns:
        Names, :data:`ANY` and :data:`SECTIONS` among them; None if nothing about the section is known.
    """
    kinds = _registered(node.get('type'))
    if kinds:
        return {'type', '_scope_', *_parameters(kinds), *_read_by_builders(kinds, path)}
    if path in _KEYS:
        own = [option for kind in _constructors() for option in getattr(kind, 'options', ())]
        return {*_KEYS[path], *(own if path == 'optim_wrapper.paramwise_cfg' else ())}
    functions = _untyped(path)
    return {*_parameters(functions), *_read_by_builders(functions, path)} if functions else None


def _registered(kind: Any) -> list[Callable]:
    """Return what a type is, or everything that is registered under its name, since scopes are unknown here."""
    if callable(kind):
        return [kind]
    if not isinstance(kind, str):
        return []
    scope, _, bare = kind.rpartition('.')
    found = [(each.scope, each.module_dict[bare]) for each in all_registries() if bare in each.module_dict]
    return [each for of, each in found if of == scope] or [each for _, each in found]


def _constructors() -> list[Callable]:
    return [each for registry in all_registries() if registry.name == 'optimizer wrapper constructor'
            for each in registry.module_dict.values()]


def _untyped(path: str) -> list[Callable]:
    """Return what builds a section without a type."""
    if path == 'compile':
        import torch
        return [torch.compile, lambda target: None]
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import OptimWrapper
    from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, LogProcessor, Runner, TestLoop, ValLoop
    from torch.utils.data import DataLoader

    def typed(type: str) -> None:
        """Stand for the class that a default is taken for."""

    def loader_parts(dataset: Any, sampler: Any, batch_sampler: Any, num_batch_per_epoch: int) -> None:
        """Stand for what ``Runner.build_dataloader`` reads."""

    known: dict[str, list[Callable]] = {
        'train_cfg': [EpochBasedTrainLoop, IterBasedTrainLoop, typed, lambda by_epoch: None],
        'val_cfg': [ValLoop, typed], 'test_cfg': [TestLoop, typed], 'log_processor': [LogProcessor, typed],
        'optim_wrapper': [OptimWrapper, typed], 'model_wrapper_cfg': [MMDistributedDataParallel, typed],
        'randomness': [Runner.set_randomness],
    }
    known.update(dict.fromkeys(('train_dataloader', 'val_dataloader', 'test_dataloader'), [DataLoader, loader_parts]))
    return known.get(path, [])


def _parameters(functions: Iterable[Callable]) -> set[str]:
    found = set()
    for function in functions:
        # **kwargs go on to the bases
        bases = function.__mro__ if inspect.isclass(function) else ()
        for each in [base.__init__ for base in bases if '__init__' in vars(base) and base is not object] or [function]:
            for name, parameter in inspect.signature(each).parameters.items():
                found.add(ANY if parameter.kind is parameter.VAR_KEYWORD else name)
    return found - {'self', 'args'}


def _read_by_builders(kinds: Iterable[Callable], path: str) -> set[str]:
    """Return keys that are read before the class gets the others."""
    from mmengine.hooks import Hook
    from mmengine.model import BaseInit
    from mmengine.optim import OptimWrapper
    from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
    from mmengine.visualization import BaseVisBackend
    from torch import nn
    found: set[str] = set()
    for kind in kinds:
        if not inspect.isclass(kind):
            continue
        for base, keys in ((OptimWrapper, ('constructor', 'paramwise_cfg')), (Hook, ('priority',)),
                           (_ParamScheduler, ('convert_to_iter_based', 'epoch_length')), (BaseInit, ('override',)),
                           (BaseVisBackend, ('name',))):
            if issubclass(kind, base):
                found.update(keys)
        if issubclass(kind, nn.Module) and kind.__module__.startswith(_LAYERS):  # also fallback_on_stride, …
            found.update(('requires_grad', ANY))
    if path.endswith('.loss_cls'):
        found.add('bg_cls_weight')
    return found
