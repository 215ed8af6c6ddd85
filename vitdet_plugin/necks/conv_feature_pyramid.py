"""Feature pyramid of Sense-X's Co-DINO on a ViT: enlarged maps are convolved, with GELU between all layers."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.layers.norm import LayerNorm2d
from vitdet_plugin.necks.checks import check_channels, check_widths, doublings


@MODELS.register_module()
class ConvFeaturePyramid(BaseModule):
    """Pyramid of one feature map by interpolation and convolutions, where ``SimpleFeaturePyramid`` has deconvolutions.

    Each level resizes the map: doubling repeats every pixel and halves the channels by a 3x3 convolution; the first
    halving is a maximum over 3x3 positions, further ones are 3x3 convolutions of stride 2. A 1x1 and a 3x3 convolution
    follow. Convolutions have no bias; LayerNorm over the channels follows each, and GELU each but the last.

    Args:
        in_channels: Channels of the backbone's last map.
        out_channels: Channels of every level.
        scale_factors: Size of each level relative to the input map, from fine to coarse.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, in_channels: int, out_channels: int = 256,
                 scale_factors: Sequence[float] = (4.0, 2.0, 1.0, 0.5, 0.25), init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg or dict(type='Xavier', layer='Conv2d', distribution='uniform'))
        check_widths(in_channels, out_channels, scale_factors)
        self.in_channels = in_channels
        self.levels = nn.ModuleList(_level(in_channels, out_channels, scale) for scale in scale_factors)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Build the pyramid.

        Args:
            inputs: Maps of the backbone; the last one, (B, in_channels, H, W), is used.

        Returns:
            A map (B, out_channels, H * scale, W * scale) for each scale factor; sides of halved maps are rounded up.
        """
        check_channels(inputs[-1], self.in_channels)
        return tuple(level(inputs[-1]) for level in self.levels)


def _level(in_channels: int, out_channels: int, scale: float) -> nn.Sequential:
    steps, width, layers = doublings(scale), in_channels, list[nn.Module]()
    for _ in range(steps):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
                   LayerNorm2d(width // 2), nn.GELU()]
        width //= 2
    if steps < 0:
        layers.append(nn.MaxPool2d(3, stride=2, padding=1))
    for _ in range(-steps - 1):
        layers += [nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False), LayerNorm2d(width), nn.GELU()]
    return nn.Sequential(
        *layers, nn.Conv2d(width, out_channels, 1, bias=False), LayerNorm2d(out_channels), nn.GELU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), LayerNorm2d(out_channels))
