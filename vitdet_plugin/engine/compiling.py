"""Compile the parts of a model that repeat or have static shapes: blocks of the backbone, neck, head of the RPN."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from timm.layers import DropPath
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vitdet_plugin.backbones.base import repeated_blocks
from vitdet_plugin.errors import UserError

RECOMPILES = 64  # of one region; torch's limit of 8 is below the number of blocks that can differ


@HOOKS.register_module()
class CompileHook(Hook):
    """Compile regions of the model for its training steps with ``torch.compile``.

    Equal blocks share a graph. Parameters keep their names; averaged weights and evaluations run without compilation,
    as their images have many shapes. Two trainings with the same graphs have the same results; without compilation the
    results differ by rounding, and by the random numbers of stochastic depth.

    Args:
        backend: Backend of ``torch.compile``.
        mode: Its mode, such as 'reduce-overhead', which uses CUDA graphs.
        dynamic: As in ``torch.compile``; None: static shapes, and dynamic ones where several occur.
        fullgraph: Whether a graph break is an error.
    """

    def __init__(self, backend: str | Callable = 'inductor', mode: str | None = None, dynamic: bool | None = None,
                 fullgraph: bool = False) -> None:
        self.options: dict[str, Any] = dict(backend=backend, dynamic=dynamic, fullgraph=fullgraph)
        if mode:
            self.options['mode'] = mode

    def before_train(self, runner) -> None:
        model = runner.model
        if is_model_wrapper(model):
            if not isinstance(model, DistributedDataParallel):
                raise UserError(f'--compile does not support {type(model).__name__}; train without one of the two')
            model = model.module
        names = compile_regions(model, **self.options)
        runner.logger.info(f'compiled for training with {self.options["backend"]}: {", ".join(names)}')


def compile_regions(model: nn.Module, **options: Any) -> list[str]:
    """Compile the regions of a detector or classifier in place, for training steps only.

    Args:
        model: A model with a backbone.
        options: Arguments of ``torch.compile``.

    Returns:
        Descriptions of the regions.

    Raises:
        UserError: The backend does not exist.
    """
    backend = options.get('backend', 'inductor')
    if isinstance(backend, str) and backend not in torch._dynamo.list_backends(exclude_tags=()):
        raise UserError(f'--compile {backend}: unknown backend; choose one of '
                        f'{", ".join(torch._dynamo.list_backends())}')
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, RECOMPILES)
    backbone: Any = model.backbone
    blocks = repeated_blocks(backbone)
    others = [part for name in ('neck', 'rpn_head') if isinstance(part := getattr(model, name, None), nn.Module)
              and any(True for _ in part.parameters())]
    for region in [*(blocks or [backbone]), *others]:
        _share_drop_path(region)
        region.compile(**options)
        region._compiled_call_impl = partial(_call, region, region._compiled_call_impl)
    first = f'{len(blocks)} blocks of {type(backbone).__name__}' if blocks else type(backbone).__name__
    return [first, *(type(part).__name__ for part in others)]


def apply_compile(cfg: Config, backend: str | bool | None) -> None:
    """Add :class:`CompileHook` to ``cfg``.

    Args:
        cfg: Changed in place.
        backend: Name of a backend; True or 'auto' for inductor, None or False for nothing.

    Raises:
        UserError: The config shards the model over the ranks.
    """
    if not backend:
        return
    if cfg.get('strategy') is not None:
        raise UserError(f'--compile does not support strategy={cfg.strategy.get("type")}; train without one of the two')
    cfg.default_hooks.compile = dict(type='CompileHook', backend='inductor' if backend in (True, 'auto') else backend)


class SharedDropPath(nn.Module):
    """Stochastic depth whose rate is an input of a graph, so that blocks of different rates share one graph."""

    def __init__(self, rate: float, is_scaled: bool, like: Tensor) -> None:
        super().__init__()
        # not a buffer: averaged weights pair the buffers of the model with those of its copy
        self.keep = torch.tensor(1.0 - rate, dtype=torch.float32, device=like.device)
        self.is_scaled = is_scaled

    def forward(self, x: Tensor) -> Tensor:
        """Set whole samples of ``x`` (B, ...) to zero at random in training."""
        if not self.training:
            return x
        mask = torch.bernoulli(self.keep.expand(x.shape[0]))
        if self.is_scaled:
            mask = mask / self.keep
        return x * mask.to(x.dtype).view(-1, *[1] * (x.ndim - 1))


def _share_drop_path(region: nn.Module) -> None:
    weight = next(region.parameters())
    for module in region.modules():
        for name, child in module.named_children():
            if isinstance(child, DropPath) and 0 < child.drop_prob < 1:
                setattr(module, name, SharedDropPath(child.drop_prob, child.scale_by_keep, weight))


def _call(region: nn.Module, compiled: Callable, *args: Any, **kwargs: Any) -> Any:
    """Call a region: compiled in training steps, as it is elsewhere."""
    is_step = region.training and torch.is_grad_enabled()
    return compiled(*args, **kwargs) if is_step else region._call_impl(*args, **kwargs)
