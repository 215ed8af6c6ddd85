"""All backbones of this project in the registry; new ones are tested without an entry in a list."""

import inspect
import os
from pathlib import Path

import pytest
import torch
from torch import nn

import vitdet_plugin
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.base import Backbone, registered_backbones
from vitdet_plugin.errors import UserError

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


def file_of(cls) -> str:
    """File and class, for messages that say what to edit."""
    return f'{os.path.relpath(inspect.getsourcefile(cls), Path(__file__).parents[2])}: {cls.__name__}'


def refusal(cls, call, advice: str) -> str:
    """The line of the UserError that a call raises; ``advice`` says what the class lacks if it raises none."""
    try:
        call()
    except UserError as error:
        assert '\n' not in str(error)
        return str(error)
    except Exception as error:
        advice += f' ({type(error).__name__}: {error})'
    pytest.fail(f'{file_of(cls)}: {advice}', pytrace=False)
