"""Every backbone of this project that is registered, found by itself: a new one is tested without a list."""

import torch
from mmengine.registry import MODELS
from torch import nn

import vitdet_plugin  # noqa: F401  registers
from vitdet_plugin.backbones.base import Backbone

BACKBONES = sorted({cls for cls in MODELS.module_dict.values() if isinstance(cls, type) and issubclass(cls, Backbone)},
                   key=lambda cls: cls.__name__)


def tiny(cls, seed: int = 0, **overrides) -> Backbone:
    """The class's own ``tiny_cfg``, every parameter moved off its initial value (zeros hide mistakes)."""
    torch.manual_seed(seed)
    return disturb(cls(**{**cls.tiny_cfg, **overrides}))


def disturb(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module


def image(model: Backbone, rows: int = 2, columns: int = 3, batch: int = 2, dtype=torch.float32) -> torch.Tensor:
    """A picture of ``rows x columns`` places of the coarsest map."""
    stride = model.out_strides[-1]
    generator = torch.Generator().manual_seed(rows + 10 * columns)
    return torch.randn(batch, 3, rows * stride, columns * stride, generator=generator).to(dtype)
