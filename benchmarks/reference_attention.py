"""Reference for ViTDet's attention: computed as in detectron2, with every intermediate tensor materialized."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.layers.pos_embed import fit_rel_pos
from vitdet_plugin.layers.window import window_partition, window_unpartition


def materialized_attention(q: Tensor, k: Tensor, v: Tensor, table_h: Tensor, table_w: Tensor, hw: tuple[int, int],
                           scale: float) -> Tensor:
    """softmax(scale q k^T + rel_h + rel_w) v over whole score tensors; q, k, v (B, H * W, d), heads in the batch."""
    h, w = hw
    scores = (q * scale) @ k.transpose(-2, -1)
    q_map = q.reshape(-1, h, w, q.shape[-1])
    rel_h = torch.einsum('bhwc,hkc->bhwk', q_map, _rows(table_h, h))
    rel_w = torch.einsum('bhwc,wkc->bhwk', q_map, _rows(table_w, w))
    scores = scores.view(-1, h, w, h, w) + rel_h[:, :, :, :, None] + rel_w[:, :, :, None, :]
    return scores.view(-1, h * w, h * w).softmax(-1) @ v


def _rows(table: Tensor, size: int) -> Tensor:
    """(L, d) -> (size, size, d): the rows of the distances of queries and keys, by index."""
    index = torch.arange(size, device=table.device)
    return fit_rel_pos(table, 2 * size - 1)[index[:, None] - index + (size - 1)]


def relative_error(ours: Tensor | list[Tensor], reference: Tensor | list[Tensor]) -> float:
    """Return the Euclidean norm of the difference / that of the reference, the largest of several tensors."""
    if isinstance(ours, list):
        return max(relative_error(*pair) for pair in zip(ours, reference, strict=True))
    return float((ours.double() - reference.double()).norm() / reference.double().norm())


class ReferenceAttention(WindowAttention):
    """Zero padding before the projection, then materialized attention; parameters as in WindowAttention."""

    def forward(self, x_bhwc: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        h, w, window = *x_bhwc.shape[1:3], self.window_size
        if not window:
            return self.proj(self._attend(self.qkv(x_bhwc)))
        x = F.pad(x_bhwc, (0, 0, 0, -w % window, 0, -h % window))
        padded_hw = x.shape[1:3]
        out = self.proj(self._attend(self.qkv(window_partition(x, window))))
        return window_unpartition(out, padded_hw)[:, :h, :w]

    def _attend(self, qkv: Tensor) -> Tensor:
        groups, h, w, _ = qkv.shape
        q, k, v = qkv.reshape(groups, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4).flatten(1, 2)
        out = materialized_attention(q, k, v, self.rel_pos_h, self.rel_pos_w, (h, w), self.scale)
        return out.view(groups, self.num_heads, h, w, -1).permute(0, 2, 3, 1, 4).reshape(groups, h, w, -1)
