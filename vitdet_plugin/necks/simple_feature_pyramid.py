"""Simple feature pyramid built from maps of a single stride (ViTDet, arXiv 2203.16527, figure 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule, build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.necks.checks import check_channels, check_widths, doublings


@MODELS.register_module()
class SimpleFeaturePyramid(BaseModule):
    """Pyramid of one feature map: resize by each scale factor, then a 1x1 and a 3x3 convolution with norm.

    Args:
        in_channels: Channels of the backbone's last map, from which every level is built. A sequence gives one number
            for each scale factor; level i is then built from the i-th map, and all maps have the same stride.
        out_channels: Channels of every level.
        scale_factors: Size of each level relative to the input map, from fine to coarse.
        num_outs: Number of maps returned. Maps beyond the scale factors are the previous one subsampled by 2.
        norm_cfg: Norm of every convolution. The default is LayerNorm over the channels, as in the paper. EasyCV's
            ``dict(type='GN', num_groups=1)`` also normalizes over the positions and gives different results.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, in_channels: int | Sequence[int], out_channels: int = 256,
                 scale_factors: Sequence[float] = (4.0, 2.0, 1.0, 0.5), num_outs: int | None = None,
                 norm_cfg: dict | None = None, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        check_widths(in_channels, out_channels, scale_factors)
        norm_cfg = norm_cfg or dict(type='LayerNorm2d', eps=1e-6)
        self.num_outs = num_outs or len(scale_factors) + 1
        if self.num_outs < len(scale_factors):
            raise UserError(f'num_outs={num_outs} is less than the {len(scale_factors)} scale factors; '
                            'increase num_outs')
        self.from_last = isinstance(in_channels, int)
        widths = [in_channels] * len(scale_factors) if isinstance(in_channels, int) else in_channels
        if len(widths) != len(scale_factors):
            raise UserError(f'in_channels={in_channels} has {len(widths)} entries for {len(scale_factors)} '
                            'scale factors; give one entry for each scale factor')
        self.widths = list(widths)
        self.levels = nn.ModuleList(
            _Level(width, out_channels, scale, norm_cfg) for width, scale in zip(widths, scale_factors))

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: Maps of the backbone. Only the last one, (B, in_channels, H, W), is used if ``in_channels`` is a
                number; otherwise there is one map for each scale factor.

        Returns:
            ``num_outs`` maps (B, out_channels, H * scale, W * scale), fine to coarse.
        """
        if not self.from_last and len(inputs) != len(self.levels):
            raise UserError(f'the backbone returns {len(inputs)} maps, but in_channels has {len(self.levels)} entries; '
                            "set the backbone's out_indices or in_channels")
        maps = [inputs[-1]] * len(self.levels) if self.from_last else inputs
        for x, width in zip(maps, self.widths):
            check_channels(x, width)
        outs = [level(x) for level, x in zip(self.levels, maps)]
        while len(outs) < self.num_outs:
            outs.append(F.max_pool2d(outs[-1], kernel_size=1, stride=2))
        return tuple(outs)


class _Level(nn.Module):
    """Resize by a power of two, then a 1x1 and a 3x3 convolution, each with norm and without activation."""

    def __init__(self, in_channels: int, out_channels: int, scale: float, norm_cfg: dict) -> None:
        super().__init__()
        resize: list[nn.Module] = []
        steps, width = doublings(scale), in_channels
        for _ in range(steps):  # each halves the width; norm and GELU only between two deconvolutions
            if resize:
                resize += [build_norm_layer(norm_cfg, width)[1], nn.GELU()]
            resize.append(nn.ConvTranspose2d(width, width // 2, kernel_size=2, stride=2))
            width //= 2
        for _ in range(-steps):
            resize.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.resize = nn.Sequential(*resize)
        self.lateral = ConvModule(width, out_channels, 1, norm_cfg=norm_cfg, act_cfg=None)
        self.output = ConvModule(out_channels, out_channels, 3, padding=1, norm_cfg=norm_cfg, act_cfg=None)
        for module in (self.lateral, self.output):
            module.conv.reset_parameters()  # detectron2 keeps PyTorch's initial weights, ConvModule draws larger ones

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.lateral(self.resize(x)))
