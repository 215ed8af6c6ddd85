"""All backbones of this project in the registry; new ones are tested without an entry in a list."""

import torch
from torch import nn

import vitdet_plugin
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.base import Backbone, registered_backbones

vitdet_plugin.register_all()
BACKBONES = registered_backbones()


def tiny(cls, seed: int = 0, **overrides) -> Backbone:
    """A small model of ``cls``, every parameter moved off its initial value (zeros hide mistakes)."""
    torch.manual_seed(seed)
    return disturb(cls(**{**small_cfg(cls), **overrides}))


def disturb(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return module


def image(model: Backbone, rows: int = 2, columns: int = 3, batch: int = 2, dtype=torch.float32) -> torch.Tensor:
    """Random images (batch, 3, H, W) of ``rows x columns`` positions of the coarsest map."""
    stride = model.out_strides[-1]
    generator = torch.Generator().manual_seed(rows + 10 * columns)
    return torch.randn(batch, 3, rows * stride, columns * stride, generator=generator).to(dtype)
