"""The outlook attention layer of VOLO (arXiv 2106.13112, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitdet_plugin.ops.linear import linear
from vitdet_plugin.ops.outlook_attention import OPERATOR, outlook_attention
from vitdet_plugin.utils.arguments import check_heads, check_range, check_whole


class OutlookAttention(nn.Module):
    """Outlook attention with its projections.

    Values come from a linear layer, scores from a linear layer on the average of each stride x stride cell.

    Args:
        dim: channels.
        num_heads: number of heads; divides ``dim``.
        kernel_size, stride, padding: parameters of the windows; the pooled grid must have the size of the windows'
            grid.
        qkv_bias: whether the values have a bias.
        scale: factor of the scores; default ``(dim / num_heads) ** -0.5``.
        dropout: dropout rate of the attention weights.
        form: see :mod:`vitdet_plugin.ops.outlook_attention`.

    Raises:
        UserError: An argument is invalid, e.g. ``dim`` is not a multiple of ``num_heads``.
    """

    def __init__(self, dim: int, num_heads: int, *, kernel_size: int = 3, stride: int = 2, padding: int = 1,
                 qkv_bias: bool = False, scale: float | None = None, dropout: float = 0.0, form: str = 'auto') -> None:
        super().__init__()
        check_heads(num_heads, dim=dim)
        check_whole(1, kernel_size=kernel_size, stride=stride)
        check_whole(0, padding=padding)
        check_range(0, 1, dropout=dropout)
        OPERATOR.check_name(form)
        self.num_heads, self.kernel_size, self.stride, self.padding = num_heads, kernel_size, stride, padding
        self.scale = (dim // num_heads) ** -0.5 if scale is None else scale
        self.dropout, self.form = dropout, form
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.attn = nn.Linear(dim, num_heads * kernel_size**4)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C), any H and W."""
        cells = F.avg_pool2d(x.permute(0, 3, 1, 2), self.stride, self.stride, ceil_mode=True).permute(0, 2, 3, 1)
        y = outlook_attention(linear(self.v, x), linear(self.attn, cells), self.num_heads,
                              kernel_size=self.kernel_size, stride=self.stride, padding=self.padding, scale=self.scale,
                              dropout=self.dropout if self.training else 0.0, form=self.form)
        return linear(self.proj, y)
