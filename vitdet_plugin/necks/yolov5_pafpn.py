"""Path aggregation neck of YOLOv5 (PANet, arXiv 1803.01534, with the partial blocks of CSPNet, arXiv 1911.11929)."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmdet.models.layers import CSPLayer
from mmdet.models.necks import YOLOXPAFPN
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import check_sizes, check_whole


@MODELS.register_module()
class YOLOv5PAFPN(YOLOXPAFPN):
    """mmdet's YOLOX neck without its output convolutions and with configurable widths.

    Top-down, level i + 1 is reduced to ``out_channels[i]``, upsampled by 2 and concatenated with level i. Bottom-up,
    level i is downsampled by 2 and concatenated with the reduced level i + 1. A CSP block (C3) follows each
    concatenation.

    The input is one map (B, in_channels[i], H / 2 ** i, W / 2 ** i) for each level; the output has the same sizes and
    ``out_channels[i]`` channels.

    Args:
        in_channels: Channels of the maps, finest first. The strides double from one map to the next.
        out_channels: Channels of the returned maps; ``in_channels`` by default, as in YOLOv5.
        num_csp_blocks: Bottlenecks in each CSP block (3 times YOLOv5's depth multiple).
        norm_cfg: Norm of all convolutions.
        act_cfg: Activation of all convolutions.
        init_cfg: See mmengine's ``BaseModule``.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: Sequence[int] | None = None, num_csp_blocks: int = 1,
                 norm_cfg: dict | None = None, act_cfg: dict | None = None,
                 init_cfg: dict | list[dict] | None = None) -> None:
        BaseModule.__init__(self, init_cfg)  # the parent's constructor adds YOLOX's output convolutions
        if not isinstance(in_channels, (list, tuple)) or len(in_channels) < 2:
            raise UserError(f'YOLOv5PAFPN: in_channels={in_channels!r} must be a list of the channels of '
                            'two maps or more')
        check_whole(0, num_csp_blocks=num_csp_blocks)
        out_channels = in_channels if out_channels is None else out_channels
        check_sizes(len(in_channels), in_channels=in_channels, out_channels=out_channels)
        self.in_channels, self.out_channels = list(in_channels), list(out_channels)
        common = dict(norm_cfg=norm_cfg or dict(type='BN', momentum=0.03, eps=0.001),
                      act_cfg=act_cfg or dict(type='SiLU', inplace=True))
        block = dict(num_blocks=num_csp_blocks, add_identity=False, **common)
        last = len(in_channels) - 1
        self.upsample = nn.Upsample(scale_factor=2, mode='nearest')
        self.reduce_layers, self.top_down_blocks = nn.ModuleList(), nn.ModuleList()  # coarsest first, as in the parent
        for i in range(last, 0, -1):
            coarser, width = in_channels[i] if i == last else out_channels[i], out_channels[i - 1]
            self.reduce_layers.append(ConvModule(coarser, width, 1, **common))
            self.top_down_blocks.append(CSPLayer(width + in_channels[i - 1], width, **block))
        self.downsamples, self.bottom_up_blocks = nn.ModuleList(), nn.ModuleList()
        for i in range(last):
            width = out_channels[i]
            self.downsamples.append(ConvModule(width, width, 3, stride=2, padding=1, **common))
            self.bottom_up_blocks.append(CSPLayer(2 * width, out_channels[i + 1], **block))
        self.out_convs = nn.ModuleList()  # the parent's forward applies these last
