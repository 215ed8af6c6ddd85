"""Norms over the channels of maps in NHWC, by the short names that InternImage's configs use."""

from __future__ import annotations

from torch import Tensor, nn

from vitdet_plugin.errors import UserError


class BatchNormNHWC(nn.BatchNorm2d):
    """Batch norm of (B, H, W, C) maps; state-dict names as those of ``BatchNorm2d``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def build_nhwc_norm(kind: str, channels: int) -> nn.Module:
    """'LN' (eps 1e-6) or 'BN' (eps 1e-5) over the last dimension of (B, H, W, channels).

    Raises:
        UserError: any other kind.
    """
    if kind == 'LN':
        return nn.LayerNorm(channels, eps=1e-6)
    if kind == 'BN':
        return BatchNormNHWC(channels)
    raise UserError(f'norm_layer={kind!r} is unknown; choose one of LN, BN')
