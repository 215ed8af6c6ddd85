"""Residual convolutions that propagate information between windows (ViTDet, arXiv 2203.16527, section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.norm import LayerNorm2d


def _plan(kind: str, dim: int) -> list[tuple[int, int, int]]:
    """Return (in, out, kernel) of each convolution."""
    plans = {
        'naive': [(dim, dim, 3)],
        'basic': [(dim, dim, 3), (dim, dim, 3)],
        'bottleneck': [(dim, dim // 2, 1), (dim // 2, dim // 2, 3), (dim // 2, dim, 1)],
    }
    if kind not in plans:
        raise UserError(f'residual block {kind!r} is unknown; choose one of {", ".join(plans)}')
    return plans[kind]


class ResidualConvBlock(nn.Module):
    """``x + f(x)``: one ('naive') or two ('basic') 3x3 convolutions, or a 1x1, 3x3, 1x1 'bottleneck' of half width.

    Each convolution is followed by a channel LayerNorm, with GELU between them. The last norm is initialized to zero:
    the block is the identity and does not change a pre-trained backbone.

    Args:
        dim: channels in and out.
        kind: 'naive', 'basic' or 'bottleneck'.

    Raises:
        UserError: ``kind`` is unknown.
    """

    def __init__(self, dim: int, kind: str = 'bottleneck') -> None:
        super().__init__()
        plan = _plan(kind, dim)
        for i, (width_in, width_out, kernel) in enumerate(plan, start=1):
            self.add_module(f'conv{i}', nn.Conv2d(width_in, width_out, kernel, padding=kernel // 2, bias=False))
            self.add_module(f'norm{i}', LayerNorm2d(width_out))
            if i < len(plan):
                self.add_module(f'act{i}', nn.GELU())
        self.init_weights()

    def init_weights(self) -> None:
        """Initialize the convolutions by He et al., the norms to one, the last norm to zero."""
        for layer in self.children():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode='fan_out', nonlinearity='relu')
            elif isinstance(layer, LayerNorm2d):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)
                last_norm = layer
        nn.init.zeros_(last_norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        out = x
        for layer in self.children():
            out = layer(out)
        return x + out
