"""Multi-head self-attention over a map of tokens, whole or in windows, with relative position bias."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.lora import LoRALinear
from vitdet_plugin.layers.pos_embed import decomposed_rel_pos, fit_rel_pos
from vitdet_plugin.layers.window import crop, pad_with, padded_size, window_partition, window_unpartition
from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.linear import linear
from vitdet_plugin.ops.rel_pos_attention import OPERATOR, rel_pos_attention
from vitdet_plugin.ops.rel_pos_attention.cpu import compiled_attention, needs_grad, window_attention_cpu
from vitdet_plugin.utils.module_hooks import has_hooks


class WindowAttention(nn.Module):
    """Self-attention of ViTDet (arXiv 2203.16527): global, in windows, or in shifted windows.

    A grid that the windows do not divide is padded on the right and at the bottom (shifted windows: on all sides)
    with tokens that take part in the softmax. detectron2 pads zeros before the qkv projection, and so does this module
    on a GPU, where further products are cheaper than copies of three times the size, and if the projection is another
    module than a linear layer or has hooks. On a CPU padding with the bias after the projection computes the same
    function faster.

    Args:
        dim: channels.
        num_heads: number of heads, of ``dim / num_heads`` channels each.
        qkv_bias: whether queries, keys and values have a bias.
        window_size: side of a window in tokens; 0 for global attention.
        shift: rows and columns by which the windows' grid is shifted up and left.
        rel_pos_size: side of the grid for which the relative position tables are learned; None: no tables.
        form: see :mod:`vitdet_plugin.ops.rel_pos_attention`.

    Raises:
        UserError: ``dim`` is not a multiple of ``num_heads``, or ``form`` is unknown.
    """

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool = True, window_size: int = 0, shift: int = 0,
                 rel_pos_size: int | None = None, form: str = 'auto') -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f'embed_dim={dim} is not divisible by num_heads={num_heads}')
        OPERATOR.check_name(form)
        self.num_heads, self.window_size, self.shift, self.form = num_heads, window_size, shift, form
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        if rel_pos_size is None:
            self.rel_pos_h: nn.Parameter | None = None
            self.rel_pos_w: nn.Parameter | None = None
        else:
            rows, head_dim = 2 * rel_pos_size - 1, dim // num_heads
            self.rel_pos_h = nn.Parameter(torch.zeros(rows, head_dim))
            self.rel_pos_w = nn.Parameter(torch.zeros(rows, head_dim))

    def forward(self, x_bhwc: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        if self.window_size and (_pads_first(x_bhwc) or not _maps_zeros_to_bias(self.qkv)):
            return self._project_in_windows(x_bhwc)
        qkv = linear(self.qkv, x_bhwc)
        if self._is_compiled(qkv):
            out = self._attend_compiled(qkv)
        else:
            out = self._attend_in_windows(qkv) if self.window_size else self._attend(qkv, (qkv.shape[1], qkv.shape[2]))
        return linear(self.proj, out)

    def _is_compiled(self, qkv: Tensor) -> bool:
        """Whether the compiled CPU kernel for whole maps serves the call."""
        if needs_grad(qkv, self.rel_pos_h, self.rel_pos_w):
            return False
        return OPERATOR.choose(case_of(qkv, head_dim=qkv.shape[-1] // (3 * self.num_heads)), self.form).name == 'cpu'

    def _attend_compiled(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3C) -> (B, H, W, C) by one operator, which reads windows and padding from the map."""
        h, w = (self.window_size,) * 2 if self.window_size else qkv.shape[1:3]
        tables = None
        if self.rel_pos_h is not None and self.rel_pos_w is not None:
            tables = fit_rel_pos(self.rel_pos_h, 2 * h - 1), fit_rel_pos(self.rel_pos_w, 2 * w - 1)
        padding = self.qkv.bias if self.window_size else None
        return window_attention_cpu(qkv, padding, tables, self.num_heads, self.window_size, self.shift,
                                    self.scale)

    def _project_in_windows(self, x_bhwc: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C): projections and attention of tokens that are sorted by window."""
        (h, w), window, shift = x_bhwc.shape[1:3], self.window_size, self.shift
        padded_hw = padded_size(h, window, shift), padded_size(w, window, shift)
        windows = window_partition(pad_with(x_bhwc, *padded_hw, offset=shift), window)
        out = self.proj(self._attend(self.qkv(windows), (window, window)))
        return crop(window_unpartition(out, padded_hw), shift, (h, w))

    def _attend_in_windows(self, qkv: Tensor) -> Tensor:
        """(B, H, W, 3C) -> (B, H, W, C): attention within each window, padded where needed."""
        (h, w), window, shift = qkv.shape[1:3], self.window_size, self.shift
        padded_hw = padded_size(h, window, shift), padded_size(w, window, shift)
        qkv = pad_with(qkv, *padded_hw, self.qkv.bias, offset=shift)
        out = window_unpartition(self._attend(window_partition(qkv, window), (window, window)), padded_hw)
        return crop(out, shift, (h, w))

    def _attend(self, qkv: Tensor, hw: tuple[int, int]) -> Tensor:
        """(G, *hw, 3C) -> (G, *hw, C): attention within each of G maps."""
        # in this order, the gradients of q, k and v are put together in the layout of qkv by one copy
        q, k, v = (x.transpose(1, 2) for x in qkv.flatten(1, 2).unflatten(-1, (3, self.num_heads, -1)).unbind(2))
        if self.rel_pos_h is None or self.rel_pos_w is None:
            with compiled_attention(q):
                out = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        else:
            rel_h, rel_w = decomposed_rel_pos(q, self.rel_pos_h, self.rel_pos_w, hw)
            out = rel_pos_attention(q, k, v, rel_h, rel_w, self.scale, self.form)
        return out.transpose(1, 2).flatten(2).unflatten(1, hw)

    def extra_repr(self) -> str:
        return f'heads={self.num_heads}, window={self.window_size or "global"}, shift={self.shift}, form={self.form}'


def _maps_zeros_to_bias(projection: nn.Module) -> bool:
    """Whether the result for zeros is the bias; unknown for other modules (quantized layers) and those with hooks."""
    return type(projection) in (nn.Linear, LoRALinear) and not has_hooks(projection)


def _pads_first(x_bhwc: Tensor) -> bool:
    """Whether windows are padded before the projection."""
    return x_bhwc.is_cuda
