"""FSDP strategy for mmengine that also supports CPUs and layer-wise learning rates."""

import copy
import inspect
import itertools
from collections.abc import Sequence
from functools import partial

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.dist import all_gather_object
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import FUNCTIONS, OPTIM_WRAPPERS, STRATEGIES
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from vitdet_plugin.compat.optim_step import clip_with
from vitdet_plugin.engine.console import quieten
from vitdet_plugin.errors import UserError

_OF_OPTIMIZER = ('state', 'param_groups')


@FUNCTIONS.register_module()
def wrap_blocks(module: nn.Module, recurse: bool, nonwrapped_numel: int, names: Sequence[str] = ('Block',)) -> bool:
    """FSDP wrap policy: each transformer block of the backbone is one unit, all other modules stay in the root unit.

    The heads of mmdet must stay in the root unit: their ``loss`` and ``predict`` are called directly, and FSDP gathers
    the weights of a unit in ``forward`` only.

    Args:
        module: Module to decide about.
        recurse: Whether FSDP asks if it should visit the children of the module.
        nonwrapped_numel: Number of parameters that are not yet wrapped; not used.
        names: Class names of the blocks.
    """
    return recurse or type(module).__name__ in names


@STRATEGIES.register_module()
class BlockFSDPStrategy(FSDPStrategy):
    """mmengine's ``FSDPStrategy`` extended for detectors and CPUs.

    * Ranks without a GPU (gloo) shard in main memory.
    * Backbone blocks are the sharded units (:func:`wrap_blocks`), unless ``model_wrapper`` sets another policy.
    * Parameter groups are built before sharding, when every parameter still has its name and shape. Sharded parameters
      are flat, so a rule such as "no weight decay on vectors" would match all of them.
    * Gradients are clipped by their norm over all ranks instead of the norm of the local shard.

    ``vitdet train`` uses this class for ``strategy=dict(type='FSDPStrategy')``.

    Args:
        model_wrapper: Config of the model wrapper, as for ``FSDPStrategy``.
        state_dict_cfg: ``'full'`` (default) writes one regular checkpoint, ``'local'`` writes one shard per rank.
        **kwargs: Other arguments of ``FSDPStrategy``.
    """

    def __init__(self, *, model_wrapper: dict | None = None, state_dict_cfg: str | dict = 'full', **kwargs):
        wrapper = dict(model_wrapper or {})
        wrapper.setdefault('type', 'MMFullyShardedDataParallel')
        wrapper.setdefault('use_orig_params', True)
        wrapper.setdefault('auto_wrap_policy', dict(type='wrap_blocks'))
        if not torch.cuda.is_available():
            wrapper.setdefault('device_id', torch.device('cpu'))
        super().__init__(model_wrapper=wrapper, state_dict_cfg=state_dict_cfg, **kwargs)
        self._optim_cfg: dict | None = None

    def build_logger(self, *args, **kwargs):
        logger = super().build_logger(*args, **kwargs)
        quieten(logger)
        return logger

    def prepare(self, model, *, optim_wrapper=None, **kwargs):
        """Prepare the model as ``FSDPStrategy`` does, and store the optimizer config for use before sharding."""
        if isinstance(optim_wrapper, dict):
            self._optim_cfg = copy.deepcopy(dict(optim_wrapper))
        return super().prepare(model, optim_wrapper=optim_wrapper, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if self._optim_cfg:
            names = {id(parameter): name for name, parameter in model.named_parameters()}
            self._whole = build_optim_wrapper(model, copy.deepcopy(self._optim_cfg)).optimizer
            self._group_names = [[names[id(parameter)] for parameter in group['params']]
                                 for group in self._whole.param_groups]
        return super()._wrap_model(model)

    def build_optim_wrapper(self, optim_wrapper, model: nn.Module | None = None):
        """Build the optimizer for the sharded parameters with the parameter groups built before sharding.

        Raises:
            UserError: If ``AutocastOptimWrapper`` uses fp16; its gradient scaler does not synchronize ranks.
        """
        if self._optim_cfg is None:
            return super().build_optim_wrapper(optim_wrapper, model)
        if optim_wrapper.get('type') == 'AutocastOptimWrapper' and 'bf' not in str(optim_wrapper.get('dtype', 'bf16')):
            raise UserError('FSDP does not support fp16 with AutocastOptimWrapper. Use --amp bf16, or '
                            'optim_wrapper.type=AmpOptimWrapper with use_fsdp=True.')
        settings = {key: value for key, value in self._optim_cfg.items() if key not in ('constructor', 'paramwise_cfg')}
        settings.setdefault('type', 'OptimWrapper')
        wrapper = OPTIM_WRAPPERS.build({**settings, 'optimizer': self._sharded_optimizer(model)})
        if wrapper.clip_grad_kwargs:
            clip_with(wrapper, partial(_clip_sharded, wrapper, model))
        return wrapper

    def optim_state_dict(self) -> dict:
        """Return the full optimizer state by parameter name on rank 0, with the entries added by the wrapper.

        On CPUs each kind of state is gathered in a separate call: torch (2.14) gathers all kinds into the same buffer
        and relies on the copy to main memory, which does not happen on a CPU, so all kinds would hold the values of the
        last one.
        """
        extra = {key: value for key, value in self.optim_wrapper.state_dict().items() if key not in _OF_OPTIMIZER}
        return {**self._gather_optimizer(self.optim_wrapper.optimizer), **copy.deepcopy(extra)}

    def _gather_optimizer(self, optimizer: torch.optim.Optimizer) -> dict:
        if torch.cuda.is_available() or not self._is_full_state_dict():
            return FullyShardedDataParallel.optim_state_dict(self.model, optimizer)
        raw = optimizer.state_dict()
        kinds = sorted({kind for state in raw['state'].values() for kind, value in state.items() if value.ndim})
        gathered = {}
        for kind in sorted(set(itertools.chain(*all_gather_object(kinds)))):
            part = {index: {name: value for name, value in state.items() if name == kind or not value.ndim}
                    for index, state in raw['state'].items()}
            whole = FullyShardedDataParallel.optim_state_dict(self.model, optimizer, {**raw, 'state': part})
            for name, state in whole.get('state', {}).items():
                gathered.setdefault('state', {}).setdefault(name, {}).update(copy.deepcopy(state))
            gathered.setdefault('param_groups', whole.get('param_groups', []))
        return gathered

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load an optimizer state saved by this strategy.

        Replaces mmengine's implementation, which passes the arguments to torch in an outdated order.

        Raises:
            UserError: If the checkpoint was saved by a run without FSDP.
        """
        if not all(isinstance(key, str) for key in state_dict['state']):
            raise UserError('--resume: the checkpoint is from a run without FSDP, so its optimizer state cannot be '
                            'sharded. Use --load-from to start from its weights.')
        extra = {key: value for key, value in state_dict.items() if key not in _OF_OPTIMIZER}
        own = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer,
            optim_state_dict={key: state_dict[key] for key in _OF_OPTIMIZER})
        self.optim_wrapper.load_state_dict({**own, **extra})

    def _sharded_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        parameters = {name.replace('_fsdp_wrapped_module.', ''): parameter
                      for name, parameter in model.named_parameters()}
        groups = [{**group, 'params': [parameters[name] for name in names]}
                  for group, names in zip(self._whole.param_groups, self._group_names)]
        kind = type(self._whole)
        accepted = inspect.signature(kind).parameters  # AdamW.defaults has keys that its constructor does not accept
        defaults = {key: value for key, value in self._whole.defaults.items() if key in accepted}
        self._whole = None
        return kind(groups, **defaults)


def _clip_sharded(wrapper, model: nn.Module) -> None:
    limits = dict(wrapper.clip_grad_kwargs)
    limits.pop('type', None)
    norm = model.clip_grad_norm_(limits['max_norm'], limits.get('norm_type', 2.0))
    MessageHub.get_current_instance().update_scalar('train/grad_norm', float(norm))
