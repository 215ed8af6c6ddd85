"""Simple feature pyramid: levels made from maps of one stride (ViTDet, arXiv 2203.16527, figure 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.errors import UserError


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """One map in, a pyramid out: resize by each scale factor, then 1x1 and 3x3 convolution with norm.

    Args:
        in_channels: channels of the backbone's last map, from which every level is made; or a sequence, one number for
            each scale factor: then level i is made from the i-th map, all of one stride.
        out_channels: channels of every level.
        scale_factors: size of each level against the input map: 4, 2, 1, 0.5 from fine to coarse.
        num_outs: number of maps returned; those beyond the scale factors are the last one subsampled by 2.
        norm_cfg: LayerNorm over the channels (the paper) or, as in EasyCV, ``dict(type='GN', num_groups=1)``,
            which also takes its statistics over the places and so is another function.

    Input: a sequence of maps, the last of which (B, in_channels, H, W) is used, or one for each scale factor. Output: a
    tuple of ``num_outs`` maps.
    """

    def __init__(self, in_channels: int | Sequence[int], out_channels: int = 256,
                 scale_factors: Sequence[float] = (4.0, 2.0, 1.0, 0.5), num_outs: int | None = None,
                 norm_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or dict(type='LayerNorm2d', eps=1e-6)
        self.num_outs = num_outs or len(scale_factors) + 1
        if self.num_outs < len(scale_factors):
            raise UserError(f'num_outs={num_outs} is less than the {len(scale_factors)} scale factors')
        self.from_last = isinstance(in_channels, int)
        widths = [in_channels] * len(scale_factors) if self.from_last else in_channels
        if len(widths) != len(scale_factors):
            raise UserError(f'in_channels={in_channels} names {len(widths)} maps for {len(scale_factors)} scale '
                            'factors')
        self.levels = nn.ModuleList(
            _Level(width, out_channels, scale, norm_cfg) for width, scale in zip(widths, scale_factors))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """((..., (B, C, H, W))) -> ``num_outs`` maps (B, out_channels, H * scale, W * scale), fine to coarse."""
        if not self.from_last and len(inputs) != len(self.levels):
            raise UserError(f'the backbone gives {len(inputs)} maps, in_channels names {len(self.levels)}')
        outs = [level(inputs[-1] if self.from_last else inputs[i]) for i, level in enumerate(self.levels)]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        return tuple(outs)


class _Level(nn.Module):
    """Resize by a power of two, 1x1 convolution, 3x3 convolution; no activation behind the norms."""

    def __init__(self, in_channels: int, out_channels: int, scale: float, norm_cfg: dict) -> None:
        super().__init__()
        if scale <= 0 or not math.log2(scale).is_integer():
            raise UserError(f'scale_factors of a simple feature pyramid are powers of two; {scale} is none')
        resize: list[nn.Module] = []
        width = in_channels
        while scale > 1:  # halve the width as the map doubles; norm and GELU only between two deconvolutions
            if resize:
                resize += [build_norm_layer(norm_cfg, width)[1], nn.GELU()]
            resize.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
            width //= 2
            scale /= 2
        while scale < 1:
            resize.append(nn.MaxPool2d(kernel_size=2, stride=2))
            scale *= 2
        self.resize = nn.Sequential(*resize)
        self.lateral = ConvModule(width, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.output = ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.lateral(self.resize(x)))
