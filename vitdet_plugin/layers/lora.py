"""Low-rank adaptation of linear layers (LoRA, arXiv 2106.09685)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdet_plugin.errors import UserError

PARTS = ('attn', 'mlp')
LORA_NAMES = ('lora_a', 'lora_b', 'lora_scale')


class LoRALinear(nn.Linear):
    """Linear layer with a frozen weight W and a trained update of low rank: ``x (W + alpha / rank * B A)^T + bias``.

    B is zero at the start, so that the layer first computes what the linear layer did. ``weight`` and ``bias`` keep
    their names and load from checkpoints of the linear layer. ``lora_scale`` is stored with the weights, so that a
    checkpoint can be merged without its config.

    Args:
        linear: Layer whose weight and bias are taken over.
        rank: Rank of the update.
        alpha: The update is multiplied by ``alpha / rank``.
        dropout: Dropout rate of the input of the update.

    Input (..., in_features), output (..., out_features).
    """

    lora_scale: Tensor

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.lora_a = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_empty(linear.out_features, rank))
        self.register_buffer('lora_scale', linear.weight.new_empty(()))
        self.scale, self.dropout = alpha / rank, dropout
        self.reset_update()

    def reset_update(self) -> None:
        """Initialize A as a linear layer of PyTorch and B with zeros."""
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        nn.init.zeros_(self.lora_b)
        nn.init.constant_(self.lora_scale, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.update(x)

    def update(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features): the part of the update alone."""
        x = F.dropout(x, self.dropout, self.training)
        out = F.linear(F.linear(x, self.lora_a), self.lora_b)
        return out * self.lora_scale.to(out.dtype)

    def merged(self) -> nn.Linear:
        """Return a linear layer with the update added to its weight."""
        linear = nn.Linear(self.in_features, self.out_features, self.bias is not None, device='meta')
        weight = _merge(self.weight, self.lora_a, self.lora_b, self.lora_scale)
        linear.weight, linear.bias = nn.Parameter(weight), self.bias
        return linear.train(self.training)


def add_lora(model: nn.Module, blocks: Iterable[Any], *, rank: int, alpha: float | None = None,
             parts: Iterable[str] = PARTS, dropout: float = 0.0) -> None:
    """Freeze a model and give the linear layers of its transformer blocks trained updates of low rank, in place.

    Args:
        model: Model with the blocks; its parameters are frozen.
        blocks: Transformer blocks with ``attn`` and ``mlp``.
        rank: Rank of the updates.
        alpha: The updates are multiplied by ``alpha / rank``; None: 2 * rank.
        parts: 'attn', 'mlp' or both: in which part of the blocks.
        dropout: Dropout rate of the input of the updates.

    Raises:
        UserError: An argument is not valid.
    """
    parts = [parts] if isinstance(parts, str) else list(parts)
    if not isinstance(rank, int) or rank < 1:
        raise UserError(f'lora: rank={rank!r} is not a positive integer')
    if not parts or set(parts) - set(PARTS):
        raise UserError(f'lora: parts={tuple(parts)!r}; choose from {", ".join(PARTS)}')
    if not 0 <= dropout < 1:
        raise UserError(f'lora: dropout={dropout!r} must be at least 0 and less than 1')
    model.requires_grad_(False)
    for block in blocks:
        for part in parts:
            module = getattr(block, part)
            for name, linear in list(module.named_modules()):
                if type(linear) is nn.Linear:
                    module.set_submodule(name, LoRALinear(linear, rank, 2 * rank if alpha is None else alpha, dropout))
        if hasattr(block.attn, 'qkv_bias_separate'):  # of timm: otherwise it reads the weight without calling the layer
            block.attn.qkv_bias_separate = True


def merge_lora(model: nn.Module) -> nn.Module:
    """Replace every :class:`LoRALinear` by an equivalent linear layer, in place; return the model."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LoRALinear):
            model.set_submodule(name, module.merged())
    return model


def has_lora(names: Iterable[str]) -> bool:
    """Whether weights of updates of low rank are among the names of a state dict."""
    return any(name.endswith('.lora_a') for name in names)


def merge_state_dict(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a state dict with updates of low rank added to the weights that they belong to."""
    merged = {name: value for name, value in state.items() if name.rpartition('.')[2] not in LORA_NAMES}
    for name in state:
        prefix, _, leaf = name.rpartition('.')
        if leaf == 'lora_a':
            a, b, scale = (state[f'{prefix}.{each}'] for each in LORA_NAMES)
            merged[f'{prefix}.weight'] = _merge(state[f'{prefix}.weight'], a, b, scale)
    return merged


@torch.no_grad()
def _merge(weight: Tensor, a: Tensor, b: Tensor, scale: Tensor) -> Tensor:
    wide = torch.promote_types(weight.dtype, torch.float32)
    return (weight.to(wide) + scale.to(wide) * (b.to(wide) @ a.to(wide))).to(weight.dtype)
