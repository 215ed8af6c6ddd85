"""Sharding a model over ranks (FSDP) with mmengine's strategy: on CPUs too, with layer-wise learning rates."""

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
    """Wrap policy: each transformer block of the backbone is a unit of its own, everything else stays in the root.

    mmdet's heads must stay in the root, since their ``loss`` and ``predict`` are called past ``forward``, where FSDP
    would gather their weights.

    Args:
        module: Candidate.
        recurse: Whether FSDP asks to look into it.
        nonwrapped_numel: Parameters in it; not used.
        names: Class names of the blocks.
    """
    return recurse or type(module).__name__ in names


@STRATEGIES.register_module()
class BlockFSDPStrategy(FSDPStrategy):
    """mmengine's ``FSDPStrategy`` with what detectors and CPUs need beside.

    * ranks without a GPU (gloo) shard in main memory;
    * backbone blocks are the sharded units (``wrap_blocks``), unless ``model_wrapper`` says otherwise;
    * optimiser groups are made before sharding, when every parameter still has its name and shape: a sharded one is
      flat, and a rule such as "no weight decay on vectors" would hit all of them;
    * gradients are clipped by the norm over all ranks, not by that of a rank's part.

    ``vitdet train`` uses it for ``strategy=dict(type='FSDPStrategy')``.

    Args:
        model_wrapper: As for ``FSDPStrategy``.
        state_dict_cfg: ``'full'`` writes one ordinary checkpoint (the default here); ``'local'`` one part a rank.
        **kwargs: As for ``FSDPStrategy``.
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
        """As ``FSDPStrategy.prepare``; remembers the optimiser's config for the moment before sharding."""
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
        """Make the optimiser anew for the sharded parameters, with the groups made before.

        Raises:
            UserError: fp16 with ``AutocastOptimWrapper``, whose scaler does not know of the other ranks.
        """
        if self._optim_cfg is None:
            return super().build_optim_wrapper(optim_wrapper, model)
        if optim_wrapper.get('type') == 'AutocastOptimWrapper' and 'bf' not in str(optim_wrapper.get('dtype', 'bf16')):
            raise UserError('FSDP with fp16: write --amp bf16, or optim_wrapper.type=AmpOptimWrapper, use_fsdp=True')
        settings = {key: value for key, value in self._optim_cfg.items() if key not in ('constructor', 'paramwise_cfg')}
        settings.setdefault('type', 'OptimWrapper')
        wrapper = OPTIM_WRAPPERS.build({**settings, 'optimizer': self._sharded_optimizer(model)})
        if wrapper.clip_grad_kwargs:
            clip_with(wrapper, partial(_clip_sharded, wrapper, model))
        return wrapper

    def optim_state_dict(self) -> dict:
        """Whole optimiser state by parameter name on rank 0, and what the wrapper adds (logged rate, loss scale).

        torch (2.14) gathers one kind of state after the other into the same buffer and relies on the copy to main
        memory to keep them apart; on a CPU there is no copy, and every kind would hold the last one's values. So there
        each kind is gathered by a call of its own.
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
        """Load what this strategy saved; mmengine hands torch's arguments over in an order it no longer takes."""
        if not all(isinstance(key, str) for key in state_dict['state']):
            raise UserError('--resume: the checkpoint is from a run without FSDP, whose optimiser state cannot be '
                            'sharded; start from its weights with --load-from')
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
        accepted = inspect.signature(kind).parameters  # AdamW's defaults name options that it does not take
        defaults = {key: value for key, value in self._whole.defaults.items() if key in accepted}
        self._whole = None
        return kind(groups, **defaults)


def _clip_sharded(wrapper, model: nn.Module) -> None:
    limits = dict(wrapper.clip_grad_kwargs)
    limits.pop('type', None)
    norm = model.clip_grad_norm_(limits['max_norm'], limits.get('norm_type', 2.0))
    MessageHub.get_current_instance().update_scalar('train/grad_norm', float(norm))
