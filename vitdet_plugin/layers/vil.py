"""The mixing layer of Vision-LSTM: projections, convolution and the mLSTM cell in one direction (arXiv 2406.04303)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.block_diagonal import BlockDiagonalLinear
from vitdet_plugin.layers.offset_norm import OffsetLayerNorm
from vitdet_plugin.ops.gated_norm import can_gate, gated_norm
from vitdet_plugin.ops.linear import is_plain
from vitdet_plugin.ops.mlstm import OPERATOR, mlstm
from vitdet_plugin.utils.module_hooks import has_hooks
from vitdet_plugin.utils.precision import no_autocast

_COLUMNS = 16  # products with fewer columns take longer on a CPU
CONV_KINDS = ('2d', 'causal1d')


class MLSTMCell(nn.Module):
    """Gates, mLSTM over the tokens and a norm of each head, which :meth:`finish` applies.

    Args:
        dim: channels of all heads together.
        heads: number of heads.
        norm_bias: whether the norm has a bias.
        form: see :mod:`vitdet_plugin.ops.mlstm`.
    """

    def __init__(self, dim: int, heads: int, *, norm_bias: bool, form: str = 'auto') -> None:
        super().__init__()
        OPERATOR.check_name(form)
        self.heads, self.form = heads, form
        self.igate = nn.Linear(3 * dim, heads)
        self.fgate = nn.Linear(3 * dim, heads)
        self.outnorm = OffsetLayerNorm(dim, bias=norm_bias, groups=heads)

    def reset_parameters(self) -> None:
        """Initialize the gates to be independent of the input, with a memory of different length in each head."""
        for gate in (self.igate, self.fgate):
            nn.init.zeros_(gate.weight)
        nn.init.normal_(self.igate.bias, std=0.1)
        with torch.no_grad():
            self.fgate.bias.copy_(torch.linspace(3, 6, self.heads))
        self.outnorm.reset_parameters()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, valid: Tensor | None) -> Tensor:
        """(heads, B, S, d) each, valid (B, S) -> (heads, B, S, d)."""
        with no_autocast(q.device.type):
            i_gate, f_gate = self._gates(q, k, v)
        return mlstm(q, k, v, i_gate, f_gate, valid=valid, form=self.form)

    def finish(self, h: Tensor, c: Tensor, skip: Tensor, z: Tensor) -> Tensor:
        """Normalize h (heads, B, S, d), add ``skip`` (dim,) times c and multiply by SiLU(z), both (B, S, dim)."""
        if can_gate(h, c, z) and type(self.outnorm) is OffsetLayerNorm and not has_hooks(self.outnorm):
            return gated_norm(h, c, z, 1 + self.outnorm.weight, self.outnorm.bias, skip, self.outnorm.eps)
        normed = self.outnorm(h.permute(1, 2, 0, 3).flatten(2))
        return torch.addcmul(normed, c, skip) * F.silu(z)

    def _gates(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the gates to [q; k; v]: (heads, B, S) each.

        Linear layers are applied in float32 at least, in one product and without concatenating their inputs; other
        modules, such as quantized layers, are called.
        """
        wide = torch.promote_types(q.dtype, torch.float32)
        if not is_plain(self.igate, self.fgate):
            joined = torch.cat([x.permute(1, 2, 0, 3).flatten(2) for x in (q, k, v)], -1)
            i_gate, f_gate = (_call(gate, joined).to(wide).permute(2, 0, 1) for gate in (self.igate, self.fgate))
            return i_gate, f_gate
        weight = torch.cat([self.igate.weight, self.fgate.weight]).to(wide)
        weight = weight.view(2 * self.heads, 3, self.heads, -1).permute(1, 2, 3, 0)  # (q k v, heads, d, gates)
        weight = F.pad(weight, (0, -2 * self.heads % _COLUMNS))
        of_q, of_k, of_v = (torch.bmm(x.flatten(1, 2).to(wide), w).sum(0) for x, w in zip((q, k, v), weight))
        gates = (of_q + of_k + of_v)[:, :2 * self.heads] + torch.cat([self.igate.bias, self.fgate.bias]).to(wide)
        i_gate, f_gate = gates.T.view(2, self.heads, *q.shape[1:3]).unbind()
        return i_gate, f_gate


def _call(gate: nn.Module, x: Tensor) -> Tensor:
    """Call a module with the dtype of its parameters; float32 at least if it has none."""
    dtypes = [p.dtype for p in gate.parameters() if p.is_floating_point()]
    out: Tensor = gate(x.to(dtypes[0] if dtypes else torch.promote_types(x.dtype, torch.float32)))
    return out


class ViLLayer(nn.Module):
    """Up-projection, convolution, mLSTM and gated down-projection along one direction of the token sequence.

    Args:
        dim: channels in and out; twice as many inside.
        heads: number of heads of the mLSTM.
        reverse: whether the direction is from the bottom right token to the top left one.
        conv_kind: '2d' for a depthwise convolution over the map, 'causal1d' for one over each token and those before.
        conv_kernel_size: side or length of the convolution's kernel.
        proj_bias, norm_bias: whether projections and norms have a bias.
        form: form of the cell, see :mod:`vitdet_plugin.ops.mlstm`.

    Raises:
        UserError: an argument is unknown or does not match the others.
    """

    def __init__(self, dim: int, *, heads: int, reverse: bool, conv_kind: str, conv_kernel_size: int, proj_bias: bool,
                 norm_bias: bool, form: str = 'auto') -> None:
        super().__init__()
        inner = 2 * dim
        if inner % (4 * heads):
            raise UserError(f'dim={dim} and num_heads={heads}: twice dim must be a multiple of 4 x num_heads')
        if conv_kind not in CONV_KINDS:
            raise UserError(f'conv_kind={conv_kind!r} is unknown; choose one of {", ".join(CONV_KINDS)}')
        if conv_kind == '2d' and conv_kernel_size % 2 == 0:
            raise UserError(f"conv_kernel_size={conv_kernel_size} must be odd for conv_kind='2d'")
        self.dim, self.reverse, self.conv_kind = dim, reverse, conv_kind
        self.proj_up = nn.Linear(dim, 2 * inner, bias=proj_bias)
        self.q_proj, self.k_proj, self.v_proj = (BlockDiagonalLinear(inner, heads, bias=proj_bias) for _ in range(3))
        conv, padding = (nn.Conv2d, conv_kernel_size // 2) if conv_kind == '2d' else (nn.Conv1d, 0)
        self.conv = conv(inner, inner, conv_kernel_size, padding=padding, groups=inner)
        self.mlstm_cell = MLSTMCell(inner, heads, norm_bias=norm_bias, form=form)
        self.learnable_skip = nn.Parameter(torch.ones(inner))
        self.proj_down = nn.Linear(inner, dim, bias=proj_bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize as in the paper: normal weights, sqrt(2 / (5 dim)) into the cell and 2 / sqrt(dim) out of it."""
        for part in (self.proj_up, self.q_proj, self.k_proj, self.v_proj):
            nn.init.normal_(part.weight, std=math.sqrt(2 / (5 * self.dim)))
        nn.init.normal_(self.proj_down.weight, std=2 / math.sqrt(self.dim))
        for part in (self.proj_up, self.q_proj, self.k_proj, self.v_proj, self.proj_down):
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        self.conv.reset_parameters()
        self.mlstm_cell.reset_parameters()
        nn.init.ones_(self.learnable_skip)

    def forward(self, x: Tensor, hw: tuple[int, int], valid: Tensor | None = None) -> Tensor:
        """Mix tokens along the direction.

        Args:
            x: (B, H * W, dim), row by row.
            hw: rows and columns of the map.
            valid: (B, H * W) bool, False for padding; None if all tokens are valid.

        Returns:
            (B, H * W, dim).
        """
        if self.reverse:  # for the convolution, a map turned by 180 degrees
            x, valid = x.flip(1), None if valid is None else valid.flip(1)
        u, z = self.proj_up(x).chunk(2, -1)
        if valid is not None:
            u = u * valid[..., None].to(u.dtype)  # outside the image the convolution reads zeros, as in its own padding
        c = F.silu(self._convolve(u, hw))
        h = self.mlstm_cell(self.q_proj(c), self.k_proj(c), self.v_proj(u), valid)
        out: Tensor = self.proj_down(self.mlstm_cell.finish(h, c, self.learnable_skip, z))
        return out.flip(1) if self.reverse else out

    def _convolve(self, u: Tensor, hw: tuple[int, int]) -> Tensor:
        """(B, S, C) -> (B, S, C)."""
        if self.conv_kind == '2d':
            u_bchw = u.unflatten(1, hw).permute(0, 3, 1, 2)
            out_bchw: Tensor = self.conv(u_bchw)
            return out_bchw.permute(0, 2, 3, 1).flatten(1, 2)
        before = self.conv.kernel_size[0] - 1
        out_bcs: Tensor = self.conv(F.pad(u.transpose(1, 2), (before, 0)))
        return out_bcs.transpose(1, 2)
