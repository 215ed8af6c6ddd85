"""The DCNv3 layer of InternImage, with the official parameter names (arXiv 2211.05778, section 3.1)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ops_dcnv3.functional import dcnv3
from vitdet_plugin.ops.linear import linear
from vitdet_plugin.ops.tap_softmax import tap_softmax

_ACTIVATIONS = {'GELU': nn.GELU, 'ReLU': nn.ReLU, 'SiLU': nn.SiLU}


class _ToChannelsLast(nn.Module):
    """(N, C, H, W) -> (N, H, W, C)."""

    def forward(self, x_nchw: Tensor) -> Tensor:
        return x_nchw.permute(0, 2, 3, 1)


class DCNv3(nn.Module):
    """Deformable convolution whose offsets and modulation come from a depthwise convolution of its input.

    (N, H, W, channels) -> (N, Ho, Wo, channels).

    Args:
        channels: channels in and out; a multiple of ``group``.
        kernel_size, stride, pad, dilation: parameters of the deformable convolution, for both height and width.
        dw_kernel_size: kernel size of the depthwise convolution; ``kernel_size`` by default.
        group: number of groups that share offsets and modulation.
        offset_scale: factor of the dilation grid and the offsets.
        act_layer: 'GELU', 'ReLU' or 'SiLU'.
        norm_layer: 'LN' or 'BN'.
        center_feature_scale: whether to mix in the projected input, by a learned gate for each group.
        remove_center: whether to leave out the center tap of the kernel.

    Raises:
        ValueError: an argument is unknown or does not match the others.
    """

    backend: str | None = None  #: see :func:`ops_dcnv3.dcnv3`

    def __init__(self, channels: int = 64, kernel_size: int = 3, dw_kernel_size: int | None = None, stride: int = 1,
                 pad: int = 1, dilation: int = 1, group: int = 4, offset_scale: float = 1.0, act_layer: str = 'GELU',
                 norm_layer: str = 'LN', center_feature_scale: bool = False, remove_center: bool = False) -> None:
        super().__init__()
        if channels % group:
            raise ValueError(f'DCNv3: channels {channels} is not a multiple of group {group}')
        if remove_center and kernel_size % 2 == 0:
            raise ValueError(f'DCNv3: remove_center needs an odd kernel_size, not {kernel_size}')
        if act_layer not in _ACTIVATIONS:
            raise ValueError(f'DCNv3: act_layer {act_layer!r} is unknown; choose one of {", ".join(_ACTIVATIONS)}')
        if norm_layer not in ('LN', 'BN'):
            raise ValueError(f'DCNv3: norm_layer {norm_layer!r} is unknown; choose one of LN, BN')
        dw_kernel_size = kernel_size if dw_kernel_size is None else dw_kernel_size
        # offsets are predicted at the output positions: both convolutions have the same center and output size
        span = dilation * (kernel_size - 1) + 1
        dw_pad, odd = divmod(2 * pad - span + dw_kernel_size, 2)
        if odd or dw_pad < 0:
            raise ValueError(f'DCNv3: a dw_kernel_size of {dw_kernel_size} does not give one offset for each output of '
                             f'kernel_size {kernel_size}, pad {pad}, dilation {dilation}; it must be '
                             f'{"odd" if span % 2 else "even"} and at least {max(span - 2 * pad, 1)}')
        if center_feature_scale and 2 * pad != span - 1:
            raise ValueError(f'DCNv3: center_feature_scale needs pad {(span - 1) / 2:g}, not {pad}')
        self.channels, self.kernel_size, self.dw_kernel_size = channels, kernel_size, dw_kernel_size
        self.stride, self.pad, self.dilation = stride, pad, dilation
        self.group, self.group_channels = group, channels // group
        self.offset_scale, self.remove_center = offset_scale, bool(remove_center)
        self.center_feature_scale = center_feature_scale

        norm = (nn.Sequential(_ToChannelsLast(), nn.LayerNorm(channels, eps=1e-6)) if norm_layer == 'LN'
                else nn.Sequential(nn.BatchNorm2d(channels), _ToChannelsLast()))
        self.dw_conv = nn.Sequential(
            nn.Conv2d(channels, channels, dw_kernel_size, stride, dw_pad, groups=channels),
            norm, _ACTIVATIONS[act_layer]())
        self.taps = kernel_size * kernel_size - int(self.remove_center)
        points = group * self.taps
        self.offset = nn.Linear(channels, points * 2)
        self.mask = nn.Linear(channels, points)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        if center_feature_scale:
            self.center_feature_scale_proj_weight = nn.Parameter(torch.empty(group, channels))
            self.center_feature_scale_proj_bias = nn.Parameter(torch.empty(group))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialize as an average over the kernel: zero offsets, uniform modulation, gates of the center at zero.

        The depthwise convolution keeps its parameters.
        """
        for layer in (self.offset, self.mask):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        if self.center_feature_scale:
            nn.init.zeros_(self.center_feature_scale_proj_weight)
            nn.init.zeros_(self.center_feature_scale_proj_bias)
        for layer in (self.input_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, channels) -> (N, Ho, Wo, channels)."""
        value = linear(self.input_proj, x)
        features = self.dw_conv(x.permute(0, 3, 1, 2))
        offset = linear(self.offset, features)
        softmax_backend = 'pytorch' if self.backend in ('cuda', 'triton') else self.backend  # on CPUs only
        mask = tap_softmax(linear(self.mask, features), self.taps, backend=softmax_backend)
        k, s, p, d = self.kernel_size, self.stride, self.pad, self.dilation
        out = dcnv3(value, offset, mask, k, k, s, s, p, p, d, d, self.group, self.group_channels, self.offset_scale,
                    remove_center=self.remove_center, backend=self.backend)
        if self.center_feature_scale:
            gate = F.linear(features, self.center_feature_scale_proj_weight, self.center_feature_scale_proj_bias)
            gate = gate.sigmoid().repeat_interleave(self.group_channels, -1).to(out.dtype)
            out = torch.lerp(out, value[:, ::s, ::s], gate)
        return linear(self.output_proj, out)

    def extra_repr(self) -> str:
        return (f'channels={self.channels}, kernel_size={self.kernel_size}, stride={self.stride}, pad={self.pad}, '
                f'dilation={self.dilation}, group={self.group}, offset_scale={self.offset_scale}')


class DCNv3_pytorch(DCNv3):  # noqa: N801 (the official name)
    """:class:`DCNv3` that always uses the PyTorch backend."""

    backend = 'pytorch'
