"""Norms over the channels of NHWC maps, by the short names in InternImage's configs."""

from __future__ import annotations

from torch import Tensor, nn

from vitdet_plugin.errors import UserError


class BatchNormNHWC(nn.BatchNorm2d):
    """Batch norm of (B, H, W, C) maps, with the parameter names of ``BatchNorm2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def build_nhwc_norm(kind: str, channels: int) -> nn.Module:
    """Build a norm over the last dimension of (B, H, W, channels).

    Args:
        kind: 'LN' (eps 1e-6) or 'BN' (eps 1e-5).
        channels: size of the last dimension.

    Raises:
        UserError: ``kind`` is unknown.
    """
    if kind == 'LN':
        return nn.LayerNorm(channels, eps=1e-6)
    if kind == 'BN':
        return BatchNormNHWC(channels)
    raise UserError(f'norm_layer={kind!r} is unknown; choose one of LN, BN')
