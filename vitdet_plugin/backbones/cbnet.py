"""Composite of several equal backbones (CBNetV2, arXiv 2107.00420)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, cast

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from vitdet_plugin.backbones.base import Backbone, registered_backbones
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import check_range, check_whole


class Connections(nn.Module):
    """Dense higher-level composition: every map of a backbone is added to all finer stages of the next one.

    Stage i receives ``scales[i] * sum_j up(convs[i][j](map_j))`` over the maps of its own or a coarser stride; a map
    with as many channels as the stage has no convolution (arXiv 2107.00420, section 3.2, DHLC).

    Args:
        channels, strides: Of the maps, ascending strides.
        entries: Channels and stride of each stage.
        scale: Initial value of ``scales``.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], entries: Sequence[tuple[int, int]],
                 scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.sources = [[i for i, stride in enumerate(strides) if stride >= own] for _, own in entries]
        self.strides, self.entry_strides = list(strides), [stride for _, stride in entries]
        self.convs = nn.ModuleList(nn.ModuleList(
            nn.Identity() if channels[i] == width else nn.Conv2d(channels[i], width, 1) for i in sources)
            for (width, _), sources in zip(entries, self.sources))
        self.scales = nn.ParameterList(nn.Parameter(torch.empty(width)) for width, _ in entries)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """PyTorch's initial convolutions; ``scales`` are constant."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
        for scale in self.scales:
            nn.init.constant_(scale, self.scale)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_j, h_j, w_j) -> one map (B, C, h, w) for each stage."""
        added = []
        for convs, scale, sources, stride in zip(self.convs, self.scales, self.sources, self.entry_strides):
            size = maps[sources[0]].shape[2:]
            total: Tensor | None = None
            for i, conv in zip(sources, cast(nn.ModuleList, convs)):
                part = conv(maps[i])
                if self.strides[i] != stride:
                    # in memory as in shape, so that an exported graph does not depend on the sizes of this map
                    part = F.interpolate(part.contiguous(), size=size, mode='nearest')
                total = part if total is None else total + part
            assert total is not None
            added.append(scale[:, None, None] * total)
        return added


@MODELS.register_module()
class CBNet(Backbone):
    """Composite of equal backbones of this project: assistants, whose maps are added to the stages of the next one.

    The last backbone, the lead, gives the maps. In training the detector ``CBDetector`` also computes the loss on the
    maps of the assistants.

    Args:
        backbone: Config of each backbone. ``out_indices`` are the maps of the lead; assistants compute all maps. A
            checkpoint in its ``init_cfg`` starts all of them.
        num_backbones: Number of backbones, 2 or more.
        share_stem: Whether the backbones after the first start from its stem instead of having one. None: if the
            backbone has a stem that can be shared (InternImage, ConvNeXt, VOLO).
        init_scale: Initial factor of the added maps: with 0 the lead starts as a single backbone.
        frozen_stages, with_cp, drop_path_rate: Instead of the values in ``backbone``, if given.
        init_cfg, pretrained: Checkpoint of the whole composite.

    Input and output are those of one backbone. Images of another number of channels: ``in_channels`` in ``backbone``.
    """

    key_weights = ('connections.0.scales.0',)
    # two levels with maps, all of them in the assistant; added maps from the start
    small = dict(backbone=dict(type='InternImage', arch=dict(channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8)),
                               out_indices=(1, 3)), init_scale=0.1)

    def __init__(self, backbone: dict, *, num_backbones: int = 2, share_stem: bool | None = None,
                 init_scale: float = 0.0, frozen_stages: int | None = None, with_cp: bool | None = None,
                 drop_path_rate: float | None = None, init_cfg: dict | list[dict] | None = None,
                 pretrained: str | bool | None = None) -> None:
        super().__init__(init_cfg, pretrained)
        check_whole(2, num_backbones=num_backbones)
        check_range(-inf, inf, init_scale=init_scale)
        if not isinstance(backbone, Mapping) or 'type' not in backbone:
            raise UserError(f"backbone={backbone!r} must be the config of a backbone: dict(type='InternImage', ...)")
        given = dict(frozen_stages=frozen_stages, with_cp=with_cp, drop_path_rate=drop_path_rate)
        cfg = {**copy.deepcopy(dict(backbone)), **{key: value for key, value in given.items() if value is not None}}
        lead = MODELS.build(copy.deepcopy(cfg))
        if not isinstance(lead, Backbone) or isinstance(lead, CBNet):
            known = ', '.join(cls.__name__ for cls in registered_backbones() if cls is not CBNet)
            raise UserError(f'CBNet: backbone.type={backbone.get("type")!r} is not a single backbone of vitdet_plugin; '
                            f'give one of {known}')
        if share_stem and not lead.stem_parts:
            raise UserError(f'share_stem=True: {type(lead).__name__} has no stem that can be shared; set it to False')
        self.share_stem = bool(lead.stem_parts) if share_stem is None else share_stem
        every = lead.all_out_indices
        if every is None:
            assistant_cfg, self._selected = cfg, list(range(len(lead.out_channels)))
        else:
            assistant_cfg = {**cfg, 'out_indices': every}
            self._selected = [every.index(i) for i in lead.out_indices]
        self.backbones = nn.ModuleList(
            [MODELS.build(copy.deepcopy(assistant_cfg)) for _ in range(num_backbones - 1)] + [lead])
        first = self._backbone(0)
        self.connections = nn.ModuleList(
            Connections(first.out_channels, first.out_strides, self._backbone(k).entries(), init_scale)
            for k in range(1, num_backbones))
        if self.share_stem:
            for k in range(1, num_backbones):
                for name in lead.stem_parts:
                    setattr(self.backbones[k], name, nn.Identity())
        self.out_channels, self.out_strides = lead.out_channels, lead.out_strides
        self.in_channels, self.size_divisor = lead.in_channels, first.size_divisor
        self.size_divisor_name = first.size_divisor_name
        self.optional_weights = tuple(f'backbones.*.{pattern}' for pattern in lead.optional_weights)
        self.train()  # freezes stages now: optimizers and DDP read requires_grad before training starts

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the lead, (B, C_i, H / s_i, W / s_i)."""
        return self.forward_all(x)[-1]

    def forward_all(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the maps of every backbone, the lead's last, each with the same channels and strides."""
        results: list[tuple[Tensor, ...]] = []
        x, embedded, added = self.check_images(x), None, None
        for k in range(len(self.backbones)):
            backbone = self._backbone(k)
            if k == 0 or not self.share_stem:
                embedded = backbone.embed(x)
            maps = backbone.run(embedded, added)
            if k < len(self.connections):
                added = self.connections[k](maps)
                maps = tuple(maps[i] for i in self._selected)
            results.append(maps)
        return results

    def reset_parameters(self) -> None:
        """Initialize every backbone and the connections."""
        for k in range(len(self.backbones)):
            self._backbone(k).reset_parameters()
        for each in self.connections:
            cast(Connections, each).reset_parameters()

    def init_weights(self) -> None:
        """Initialize; a checkpoint of ``backbone`` starts all backbones, one of the composite comes last."""
        self.reset_parameters()
        first = self._backbone(0)
        if first.init_cfg:  # read once
            first.load_init_cfg()
            weights = first.state_dict()
            for k in range(1, len(self.backbones)):
                names = self._backbone(k).state_dict().keys() & weights.keys()
                self._backbone(k).load_state_dict({name: weights[name] for name in names}, strict=False)
        self.load_init_cfg()
        self._is_init = True

    @property
    def with_cp(self) -> bool:
        """Whether blocks are computed again in the backward pass; setting it sets it in every backbone."""
        return any(self._backbone(k).with_cp for k in range(len(self.backbones)))

    @with_cp.setter
    def with_cp(self, value: bool) -> None:
        for k in range(len(self.backbones)):
            self._backbone(k).with_cp = value

    @property
    def frozen_stages(self) -> int:
        """Number of stages that each backbone freezes; setting it sets it in every backbone."""
        return self._backbone(0).frozen_stages

    @frozen_stages.setter
    def frozen_stages(self, value: int) -> None:
        for k in range(len(self.backbones)):
            self._backbone(k).frozen_stages = value

    @property
    def num_layers(self) -> int:
        """Number of layers of one backbone."""
        return self._backbone(0).num_layers

    def get_layer_id(self, name: str) -> int:
        """Return the id in the backbone of a parameter; connections have ``num_layers + 1``."""
        part, *rest = name.split('.', 2)
        if part != 'backbones':
            return self.num_layers + 1
        return self._backbone(int(rest[0])).get_layer_id(rest[1])

    def repeated_blocks(self) -> list[nn.Module]:
        """Return the blocks of every backbone."""
        return [block for k in range(len(self.backbones)) for block in self._backbone(k).repeated_blocks()]

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the stages that each backbone freezes."""
        return [part for k in range(len(self.backbones)) for part in self._backbone(k).stages_to_freeze()]

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Resize a weight as its backbone does."""
        part, *rest = name.split('.', 2)
        return self._backbone(int(rest[0])).resize_weight(rest[1], value, own) if part == 'backbones' else None

    def entries(self) -> list[tuple[int, int]]:
        """Not supported: a composite is not part of another one."""
        raise UserError('CBNet cannot be the backbone of a CBNet; set num_backbones')

    def _backbone(self, index: int) -> Any:
        return self.backbones[index]
