"""Linear layers whose matrix is block-diagonal with small blocks, for several heads at once.

On a CPU, compiled kernels multiply blocks of 4 x 4; otherwise they are merged into larger matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitdet_plugin.ops.block_diagonal import can_multiply, multiply_block_diagonal

_WIDTH = 96  # blocks are merged into larger, mostly zero ones up to this width: one large product is faster


class BlockDiagonalLinear(nn.Module):
    """``y = W x + b`` with W of ``dim / block`` blocks of ``block`` x ``block`` on its diagonal; output by heads.

    Args:
        dim: channels in and out.
        heads: number of parts of ``dim / heads`` channels; the first dimension of the output.
        block: side of the blocks.
        bias: whether to add a bias.
    """

    def __init__(self, dim: int, heads: int, *, block: int = 4, bias: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.weight = nn.Parameter(torch.empty(dim // block, block, block))  # (blocks, out, in)
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        head_dim = dim // heads
        self.width = max(w for w in range(block, max(block, min(_WIDTH, head_dim)) + 1, block) if head_dim % w == 0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, dim) -> (heads, B, S, dim / heads)."""
        if can_multiply(x, self.weight):
            return multiply_block_diagonal(x, self.weight, self.bias, self.heads)
        batch, length, dim = x.shape
        wide = x.reshape(batch * length, -1, self.width).transpose(0, 1)
        if self.bias is None:
            out = torch.bmm(wide, self._wide_blocks())
        else:
            out = torch.baddbmm(self.bias.view(-1, 1, self.width), wide, self._wide_blocks())
        parts = dim // self.heads // self.width
        if parts == 1:
            return out.view(self.heads, batch, length, -1)
        out = out.view(self.heads, parts, batch, length, self.width)
        return out.permute(0, 2, 3, 1, 4).reshape(self.heads, batch, length, -1)

    def _wide_blocks(self) -> Tensor:
        """Return the transposed blocks on the diagonals of larger ones, (dim / width, in, out)."""
        side = self.weight.shape[-1]
        blocks = self.weight.view(-1, self.width // side, side, side)  # (wide, n, out, in)
        diagonal = torch.diag_embed(blocks.permute(0, 3, 2, 1))  # (wide, in, out, n, n)
        return diagonal.permute(0, 3, 1, 4, 2).reshape(-1, self.width, self.width)

    def extra_repr(self) -> str:
        return f'{self.weight.shape[0]} blocks of {self.weight.shape[-1]}, heads={self.heads}'
