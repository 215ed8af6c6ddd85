"""A strategy for mmengine that shards weights, gradients and optimizer state by PyTorch's ``fully_shard`` (FSDP2)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine._strategy.distributed import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.model import BaseDataPreprocessor
from mmengine.registry import STRATEGIES
from mmengine.runner import checkpoint as mmengine_checkpoint
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from vitdet_plugin.backbones.base import repeated_blocks
from vitdet_plugin.checkpoints.sharded import load_sharded, save_sharded
from vitdet_plugin.compat.optim_step import clip_gradients, clip_with
from vitdet_plugin.engine.console import quieten
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.precision import DTYPES

_FORMATS = {'full': False, 'sharded': True, 'local': True}  # local: mmengine's name
_OF_FSDP1 = ('model_wrapper', 'skip_init_weights', 'activation_checkpointing')


@STRATEGIES.register_module(name=['FullyShardStrategy', 'BlockFSDPStrategy'])
class FullyShardStrategy(DDPStrategy):
    """Shard a detector or classifier over all ranks; GPUs use NCCL and ranks without a GPU gloo.

    Each block of the backbone is one unit: its weights are gathered before its forward and backward passes and freed
    after them. Neck and heads belong to the unit of the whole model, since mmdet calls their ``loss`` and ``predict``
    without ``forward``. Parameters keep their names and shapes, so optimizers are built as without sharding.

    Checkpoints are those of data-parallel training (``state_dict_cfg='full'``): every tool reads them, and a run can
    be resumed with another number of ranks, or without sharding. ``'sharded'`` writes a folder of
    ``torch.distributed.checkpoint``, to which each rank writes its part, for models whose state does not fit into the
    main memory of one process.

    ``vitdet train`` uses this class for ``strategy=dict(type='FSDPStrategy')``.

    Args:
        units: Class names of the modules of the backbone that are units; None: its blocks, see
            :meth:`~vitdet_plugin.backbones.base.Backbone.repeated_blocks`.
        reshard_after_forward: Whether the weights of a block are freed between its forward and backward passes; False
            needs more memory and communicates less.
        param_dtype: 'bf16' or 'fp16' to gather and use weights in that precision; None (default) uses float32, and
            mixed precision is then that of ``--amp``.
        reduce_dtype: Precision in which gradients are summed over the ranks; by default that of the gradients.
        cpu_offload: Whether shards stay in main memory and are copied to the GPU when they are needed.
        state_dict_cfg: ``'full'`` or ``'sharded'``.
        sync_bn: As for mmengine's ``DDPStrategy``.
        **kwargs: Arguments of mmengine's strategies.

    Raises:
        UserError: Unknown values, or arguments of mmengine's ``FSDPStrategy`` that have no meaning here.
    """

    load_before_sharding: Callable[[nn.Module], None] | None = None  # set by the runner

    def __init__(self, *, units: Sequence[str] | None = None, reshard_after_forward: bool = True,
                 param_dtype: str | None = None, reduce_dtype: str | None = None, cpu_offload: bool = False,
                 state_dict_cfg: str = 'full', sync_bn: str | None = None, **kwargs: Any) -> None:
        for name in _OF_FSDP1:
            if kwargs.pop(name, None) is not None:
                raise UserError(f'strategy.{name} is an argument of FSDP1, which is not used any more; remove it. '
                                'Units are named by strategy.units, and activation checkpointing is '
                                'model.backbone.with_cp=True')
        if not isinstance(state_dict_cfg, str) or state_dict_cfg not in _FORMATS:
            raise UserError(f'strategy.state_dict_cfg={state_dict_cfg!r}: choose full or sharded')
        super().__init__(sync_bn=sync_bn, **kwargs)
        self.units = (units,) if isinstance(units, str) else units
        self.writes_folders = _FORMATS[state_dict_cfg]
        self._options: dict[str, Any] = dict(
            reshard_after_forward=reshard_after_forward,
            mp_policy=MixedPrecisionPolicy(_dtype('param_dtype', param_dtype), _dtype('reduce_dtype', reduce_dtype)))
        if cpu_offload:
            if get_device() == 'cpu':
                raise UserError('strategy.cpu_offload=True keeps the weights of a GPU in main memory, but there is no '
                                'GPU; remove it')
            self._options['offload_policy'] = CPUOffloadPolicy()

    def build_logger(self, *args: Any, **kwargs: Any) -> Any:
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if isinstance(model, FSDPModule):
            return model
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):  # it keeps the device to which inputs are moved
                module.to(get_device())
        model = self.convert_model(model)
        if self.load_before_sharding is not None:
            self.load_before_sharding(model)
        mesh = init_device_mesh(get_device().split(':')[0], (get_world_size(),))
        return shard(model, mesh, self.units, **self._options)

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> Any:
        """Build the optimizer wrapper as mmengine does; its gradients are clipped by their norm over all ranks."""
        wrapper = super().build_optim_wrapper(optim_wrapper, model)
        if getattr(wrapper, 'clip_grad_kwargs', None):
            clip_with(wrapper, lambda: _clip(wrapper))
        return wrapper

    def model_state_dict(self) -> dict[str, Any]:
        """Return the weights: whole on the CPU, or the parts of this rank for a folder. A collective call."""
        return self._state(self.model.state_dict())

    def optim_state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer in the form of data-parallel training. A collective call."""
        return self._state(self.optim_wrapper.state_dict())

    def _state(self, state: dict[str, Any]) -> dict[str, Any]:
        return state if self.writes_folders else map_tensors(state, gather)

    def save_checkpoint(self, filename: str, *, save_optimizer: bool = True, save_param_scheduler: bool = True,
                        extra_ckpt: dict | None = None, callback: Callable[[dict], None] | None = None) -> None:
        """Write a checkpoint; every rank has to call this. Arguments as for mmengine's strategies."""
        checkpoint: dict[str, Any] = dict(state_dict=self.model_state_dict())
        if save_optimizer and hasattr(self, 'optim_wrapper'):
            checkpoint['optimizer'] = self.optim_state_dict()
        if save_param_scheduler and hasattr(self, 'param_schedulers'):
            checkpoint['param_schedulers'] = self.scheduler_state_dict()
        extra = dict(extra_ckpt or {})
        extra['meta'] = {**extra.get('meta', {}), 'seed': self.seed, 'time': time.strftime('%Y%m%d_%H%M%S')}
        checkpoint.update(extra)
        if callback is not None:
            callback(checkpoint)
        if self.writes_folders:
            save_sharded(checkpoint, filename)
        elif is_main_process():
            mmengine_checkpoint.save_checkpoint(checkpoint, filename)

    def load_checkpoint(self, filename: str, *, map_location: Any = 'cpu', strict: bool = False,
                        revise_keys: Sequence[tuple[str, str]] = ((r'^module.', ''),),
                        callback: Callable[[dict], None] | None = None) -> dict:
        """Load a file, or a folder that this strategy wrote; arguments as for mmengine's strategies."""
        if not os.path.isdir(filename):  # on the CPU: each rank copies its parts only
            return super().load_checkpoint(filename, map_location='cpu', strict=strict, revise_keys=list(revise_keys),
                                           callback=callback)
        self.logger.info(f'Load checkpoint from {filename}')
        checkpoint = load_sharded(filename, mesh_of(self.model))
        if callback is not None:
            callback(checkpoint)
        self.load_model_state_dict(checkpoint.pop('state_dict'), strict=strict, revise_keys=list(revise_keys))
        return checkpoint

    def load_model_state_dict(self, state_dict: dict, *, strict: bool = False,
                              revise_keys: Sequence[tuple[str, str]] = ((r'^module.', ''),)) -> None:
        """Load whole or sharded weights; those of other names and shapes are reported as mmengine does."""
        own = self.model.state_dict()
        state = {name: like(value, own.get(name.removeprefix('module.'))) for name, value in state_dict.items()}
        super().load_model_state_dict(state, strict=strict, revise_keys=list(revise_keys))

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of an optimizer that was saved with or without sharding, on any number of ranks.

        Raises:
            UserError: It was saved under FSDP1, by an earlier version.
        """
        if not all(isinstance(key, int) for key in state_dict['state']):
            raise UserError('--resume: the optimizer state of this checkpoint was saved under FSDP1 by an earlier '
                            'version; start from its weights with --load-from')
        parameters = [each for group in self.optim_wrapper.optimizer.param_groups for each in group['params']]
        state = {index: {kind: like(value, parameters[index]) for kind, value in values.items()}
                 for index, values in sorted(state_dict['state'].items())}
        self.optim_wrapper.load_state_dict({**state_dict, 'state': state})


def shard(model: nn.Module, mesh: DeviceMesh, units: Sequence[str] | None = None, **options: Any) -> nn.Module:
    """Shard the blocks of a model's backbone, and then the rest of the model; returns the model, changed in place.

    Args:
        model: Model with equal weights on all ranks.
        mesh: The ranks.
        units: Class names of the modules that are units; None: the blocks of the backbone.
        **options: Arguments of ``torch.distributed.fsdp.fully_shard``.

    Raises:
        UserError: The model has parameters without dimensions, which cannot be divided, or no units.
    """
    scalars = [name for name, parameter in model.named_parameters() if not parameter.ndim]
    if scalars:
        raise UserError(f'strategy: FSDP cannot shard {scalars[0]}, a parameter without dimensions; train this model '
                        'without strategy')
    backbone = getattr(model, 'backbone', model)
    blocks = repeated_blocks(backbone) if units is None else [
        module for module in backbone.modules() if type(module).__name__ in units]
    if not blocks:
        what = 'lists named blocks' if units is None else f'modules of class {" or ".join(units)}'
        raise UserError(f'strategy: {type(backbone).__name__} has no {what} to shard one by one; set strategy.units '
                        'to class names of its blocks')
    for block in blocks:
        fully_shard(block, mesh=mesh, **options)
    fully_shard(model, mesh=mesh, **options)
    return model


def mesh_of(model: nn.Module) -> DeviceMesh:
    """Return the ranks over which a model is sharded."""
    return next(each.device_mesh for each in model.parameters() if isinstance(each, DTensor))


def map_tensors(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """Return a copy of nested dicts, lists and tuples in which each tensor is replaced by ``change(tensor)``."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(each, change) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_tensors(each, change) for each in value)
    return value


def gather(value: Tensor) -> Tensor:
    """Return a whole tensor on the CPU, on the first rank; empty elsewhere if it was sharded. A collective call."""
    if not isinstance(value, DTensor):
        return value.detach().cpu()
    whole = value.full_tensor()
    return whole.detach().cpu() if is_main_process() else whole.new_empty(0, device='cpu')


def like(value: Any, reference: Any) -> Any:
    """Shard a whole tensor as ``reference`` is; other values, and those of another shape, are returned as they are."""
    if not isinstance(reference, DTensor) or not isinstance(value, Tensor) or isinstance(value, DTensor) \
            or value.shape != reference.shape:
        return value
    mesh = reference.device_mesh
    whole = value.to(mesh.device_type)
    return distribute_tensor(whole, mesh, reference.placements)


def _clip(wrapper: Any) -> None:
    if found := clip_gradients(wrapper):
        name, norm = found
        wrapper.message_hub.update_scalar(name, float(norm.full_tensor() if isinstance(norm, DTensor) else norm))


def _dtype(name: str, value: str | None) -> torch.dtype | None:
    if value is not None and value not in DTYPES:
        raise UserError(f'strategy.{name}={value!r}: choose bf16, fp16 or fp32')
    return DTYPES[value] if value else None
