"""InternImage: a backbone of deformable convolutions v3 (Wang et al., arXiv 2211.05778)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any, cast

import torch
from mmengine.registry import MODELS
from timm.layers import DropPath
from torch import Tensor, nn

from ops_dcnv3.module import DCNv3
from vitdet_plugin.backbones.arguments import (
    check_choice,
    check_frozen_stages,
    check_out_indices,
    choose_arch,
    drop_path_rates,
)
from vitdet_plugin.backbones.base import Backbone, enter_stage
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.mlp import Mlp
from vitdet_plugin.layers.nhwc_norm import build_nhwc_norm
from vitdet_plugin.utils.arguments import check_indexes, check_positive, check_range, check_sizes, check_whole

_LARGEST = dict(dw_kernel_size=5, center_feature_scale=True)
_EVERY_SIXTH = (5, 11, 17, 23, 29, 35, 41, 47)
# Table 1 of the paper and the official classification models; detection sets layer_scale=1.0 for all but H and G.
# Options that are not listed are off (offset_scale 1.0, dw_kernel_size of the sampling kernel).
ARCHS = {
    'tiny': dict(channels=64, depths=(4, 4, 18, 4), groups=(4, 8, 16, 32)),
    'small': dict(channels=80, depths=(4, 4, 21, 4), groups=(5, 10, 20, 40), layer_scale=1e-5, post_norm=True),
    'base': dict(channels=112, depths=(4, 4, 21, 4), groups=(7, 14, 28, 56), layer_scale=1e-5, post_norm=True),
    'large': dict(channels=160, depths=(5, 5, 22, 5), groups=(10, 20, 40, 80), layer_scale=1e-5, post_norm=True,
                  offset_scale=2.0),
    'xlarge': dict(channels=192, depths=(5, 5, 24, 5), groups=(12, 24, 48, 96), layer_scale=1e-5, post_norm=True,
                   offset_scale=2.0),
    'huge': dict(channels=320, depths=(6, 6, 32, 6), groups=(10, 20, 40, 80), res_post_norm=True,
                 level2_post_norm_block_ids=_EVERY_SIXTH[:5], **_LARGEST),
    'giant': dict(channels=512, depths=(2, 2, 48, 4), groups=(16, 32, 64, 128), post_norm=True,
                  level2_post_norm_block_ids=_EVERY_SIXTH, **_LARGEST),
}
_LETTERS = dict(t='tiny', s='small', b='base', l='large', xl='xlarge', h='huge', g='giant')
_SIZES = ('channels', 'depths', 'groups')
_VARIANT: dict[str, Any] = dict(
    layer_scale=False, offset_scale=1.0, post_norm=False, res_post_norm=False, center_feature_scale=False,
    remove_center=False, dw_kernel_size=None, level2_post_norm_block_ids=())
_ACTIVATIONS = dict(GELU=nn.GELU, ReLU=nn.ReLU, SiLU=nn.SiLU)


class Stem(nn.Module):
    """(B, in_channels, H, W) -> (B, H / 4, W / 4, channels): two strided convolutions, each with a norm."""

    def __init__(self, in_channels: int, channels: int, norm: str, act: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels // 2, 3, stride=2, padding=1)
        self.norm1 = build_nhwc_norm(norm, channels // 2)
        self.act = _ACTIVATIONS[act]()
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = build_nhwc_norm(norm, channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.act(self.norm1(self.conv1(x).permute(0, 2, 3, 1)))
        return self.norm2(self.conv2(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Downsample(nn.Module):
    """(B, H, W, channels) -> (B, H / 2, W / 2, 2 * channels)."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = build_nhwc_norm(norm, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Block(nn.Module):
    """DCNv3 and MLP with residual connections, on maps (B, H, W, channels).

    The options determine the positions of the norms (f is DCNv3 or the MLP, g the layer scale; the first match
    applies): ``layer_scale`` and ``post_norm``: x + g norm(f(x)); ``layer_scale``: x + g f(norm(x)); ``post_norm``: x +
    norm(f(x)); ``res_post_norm``: x + norm'(f(norm(x))); otherwise x + f(norm(x)).
    """

    def __init__(self, channels: int, group: int, variant: dict, *, mlp_ratio: float, drop: float, drop_path: float,
                 norm: str, act: str) -> None:
        super().__init__()
        self.post_norm, self.layer_scale = variant['post_norm'], variant['layer_scale']
        self.norm1 = build_nhwc_norm(norm, channels)
        self.dcn = DCNv3(
            channels, kernel_size=3, dw_kernel_size=variant['dw_kernel_size'], stride=1, pad=1, dilation=1,
            group=group, offset_scale=variant['offset_scale'], act_layer=act, norm_layer=norm,
            center_feature_scale=variant['center_feature_scale'], remove_center=variant['remove_center'])
        self.norm2 = build_nhwc_norm(norm, channels)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), act_layer=_ACTIVATIONS[act], drop=drop)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.gamma1 = self.gamma2 = self.res_post_norm1 = self.res_post_norm2 = None
        if self.layer_scale:
            self.gamma1, self.gamma2 = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
        self.has_branch_norm = variant['res_post_norm'] and not self.layer_scale and not self.post_norm
        if variant['res_post_norm']:  # the official model has them also where it does not use them
            self.res_post_norm1 = build_nhwc_norm(norm, channels).requires_grad_(self.has_branch_norm)
            self.res_post_norm2 = build_nhwc_norm(norm, channels).requires_grad_(self.has_branch_norm)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self._branch(x, self.dcn, self.norm1, self.gamma1, self.res_post_norm1))
        return x + self.drop_path(self._branch(x, self.mlp, self.norm2, self.gamma2, self.res_post_norm2))

    def _branch(self, x: Tensor, function: nn.Module, norm: nn.Module, gamma: Tensor | None,
                branch_norm: nn.Module | None) -> Tensor:
        x = norm(function(x)) if self.post_norm else function(norm(x))
        if branch_norm is not None and self.has_branch_norm:
            x = branch_norm(x)
        return x if gamma is None else gamma * x


class Level(nn.Module):
    """The blocks of one resolution, (B, H, W, channels) in and out; ``downsample`` leads to the next level.

    ``forward`` calls each block by ``call(block, x)``.
    """

    def __init__(self, channels: int, group: int, variant: dict, drop_paths: Sequence[float], *, norm: str,
                 post_norm_ids: Sequence[int], downsample: bool, **options: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([
            Block(channels, group, variant, drop_path=rate, norm=norm, **options) for rate in drop_paths])
        self.post_norm_ids = tuple(post_norm_ids)
        self.post_norms = nn.ModuleList([build_nhwc_norm('LN', channels) for _ in self.post_norm_ids])
        has_norm = not variant['post_norm'] or variant['center_feature_scale']
        self.norm = build_nhwc_norm(norm, channels) if has_norm else None
        self.downsample = Downsample(channels, norm) if downsample else None

    def forward(self, x: Tensor, call: Callable[..., Tensor]) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = call(block, x)
            if i in self.post_norm_ids:
                x = self.post_norms[self.post_norm_ids.index(i)](x)
        return x if self.norm is None else self.norm(x)


@MODELS.register_module()
class InternImage(Backbone):
    """InternImage for detectors and classifiers: maps of strides 4, 8, 16, 32, channels last throughout.

    Args:
        arch: 'tiny', 'small', 'base', 'large', 'xlarge', 'huge', 'giant', their letters 't' ... 'g', or
            ``dict(channels=, depths=, groups=)`` with any of the variants below.
        out_indices: Levels (0 to 3) whose maps are returned. Later levels keep their weights, so that checkpoints
            fit, but receive no gradients.
        layer_scale, offset_scale, post_norm, res_post_norm, center_feature_scale, remove_center, dw_kernel_size,
        level2_post_norm_block_ids: None for the value of ``arch``. ``layer_scale`` is the initial value, False for
            none; ``post_norm`` and ``res_post_norm`` set the positions of the norms (:class:`Block`); ``offset_scale``
            multiplies the sampling offsets; ``remove_center`` omits the center of the kernel; ``dw_kernel_size`` is the
            size of the depthwise convolution that precedes the offsets; the given blocks of level 2 are followed by
            another norm.
        drop_path_rate: Stochastic depth. With ``drop_path_type`` 'linear' it rises from 0 to this rate, with 'uniform'
            it is the same for all blocks.
        drop_rate: Dropout after the stem and in the MLPs.
        norm_layer: 'LN' or 'BN'.
        act_layer: 'GELU', 'ReLU' or 'SiLU'.
        frozen_stages: -1 for none; 0 for the stem; n for the first n levels as well.
        with_cp: Recompute the blocks in the backward pass to save memory.

    Input (B, in_channels, H, W) of any size; output a tuple of maps (B, channels * 2 ** i, H / 4 / 2 ** i, ...).
    """

    optional_weights = ('*.gamma[12]',)
    key_weights = ('patch_embed.norm1.weight', 'levels.0.blocks.0.dcn.mask.weight')
    small = dict(arch=dict(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8)), res_post_norm=True,
                 center_feature_scale=True, dw_kernel_size=5, level2_post_norm_block_ids=(0,), drop_path_rate=0.1)
    stem_parts = ('patch_embed',)
    all_out_indices = (0, 1, 2, 3)

    def __init__(self, arch: str | dict = 'tiny', *, out_indices: Sequence[int] = (0, 1, 2, 3), in_channels: int = 3,
                 layer_scale: float | bool | None = None, offset_scale: float | None = None,
                 post_norm: bool | None = None, res_post_norm: bool | None = None,
                 center_feature_scale: bool | None = None, remove_center: bool | None = None,
                 dw_kernel_size: int | None = None, level2_post_norm_block_ids: Sequence[int] | None = None,
                 mlp_ratio: float = 4.0, drop_rate: float = 0.0, drop_path_rate: float = 0.0,
                 drop_path_type: str = 'linear', norm_layer: str = 'LN', act_layer: str = 'GELU',
                 frozen_stages: int = -1, with_cp: bool = False, init_cfg: dict | list[dict] | None = None,
                 pretrained: str | bool | None = None) -> None:
        super().__init__(init_cfg, pretrained)
        sizes, variant = _read_arch(arch, dict(
            layer_scale=layer_scale, offset_scale=offset_scale, post_norm=post_norm, res_post_norm=res_post_norm,
            center_feature_scale=center_feature_scale, remove_center=remove_center, dw_kernel_size=dw_kernel_size,
            level2_post_norm_block_ids=level2_post_norm_block_ids))
        check_whole(1, in_channels=in_channels, **{'arch.channels': sizes['channels']})
        check_range(0, 1, drop_rate=drop_rate)
        check_range(0, inf, mlp_ratio=mlp_ratio)
        check_sizes(4, least=0, **{'arch.depths': sizes['depths']})
        check_sizes(4, **{'arch.groups': sizes['groups']})
        self.in_channels, self.depths = in_channels, tuple(sizes['depths'])
        self.out_indices, self.frozen_stages, self.with_cp = check_out_indices(out_indices, 4), frozen_stages, with_cp
        channels = [sizes['channels'] * 2 ** i for i in range(len(self.depths))]
        check_range(0, 1, drop_path_rate=drop_path_rate)
        _check(self, channels, sizes['groups'], variant, act_layer, drop_path_type)
        self.out_channels = tuple(channels[i] for i in self.out_indices)
        self.out_strides = tuple(4 * 2 ** i for i in self.out_indices)
        self._entries = [(channels[i], 4 * 2 ** i) for i in range(max(self.out_indices) + 1)]
        self.patch_embed = Stem(in_channels, channels[0], norm_layer, act_layer)
        self.pos_drop = nn.Dropout(drop_rate)
        rates = drop_path_rates(drop_path_rate, sum(self.depths))
        if drop_path_type == 'uniform':
            rates = [drop_path_rate] * len(rates)
        self.levels = nn.ModuleList([
            Level(channels[i], sizes['groups'][i], variant, rates[sum(self.depths[:i]):sum(self.depths[:i + 1])],
                  post_norm_ids=variant['level2_post_norm_block_ids'] if i == 2 else (),
                  downsample=i + 1 < len(self.depths), mlp_ratio=mlp_ratio, drop=drop_rate, norm=norm_layer,
                  act=act_layer) for i in range(len(self.depths))])
        self.reset_parameters()
        for part in self._after_last_map():
            part.requires_grad_(False)
        self.train()  # freezes stages now: optimizers and DDP read requires_grad before training starts

    def reset_parameters(self) -> None:
        """Truncated normal (std 0.02) for the MLPs; DCNv3 starts from a regular grid of sampling points."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d)):
                module.reset_parameters()
            elif isinstance(module, Block):
                for gamma in (module.gamma1, module.gamma2):
                    if gamma is not None:
                        nn.init.constant_(gamma, module.layer_scale)
        for module in self.modules():  # last: offsets and masks start at zero, unlike other linear layers
            if isinstance(module, DCNv3):
                module.reset_parameters()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W) -> one map (B, C_i, H_i, W_i) for each of ``out_indices``, channels-last in memory."""
        return self.run(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H / 4, W / 4, channels)."""
        return self.pos_drop(self.patch_embed(self.check_images(x)))

    def run(self, embedded: Tensor, added: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """See :meth:`Backbone.run`; the stages are the levels."""
        x, maps = embedded, {}
        for i in range(max(self.out_indices) + 1):
            level = self._level(i)
            x = maps[i] = level(enter_stage(x, added, i), self.checkpointed)
            if i < max(self.out_indices) and level.downsample is not None:
                x = level.downsample(x)
        return tuple(maps[i].permute(0, 3, 1, 2) for i in self.out_indices)

    def entries(self) -> list[tuple[int, int]]:
        """Return channels and stride of the input of each level up to the last map."""
        return self._entries

    @property
    def num_layers(self) -> int:
        """Number of blocks over all levels."""
        return sum(self.depths)

    def get_layer_id(self, name: str) -> int:
        """Return 0 for the stem, else 1 + the number of preceding blocks; the end of a level counts as the next."""
        if name.startswith('patch_embed.'):
            return 0
        parts = name.split('.')
        if parts[0] != 'levels':
            return self.num_layers + 1
        level = int(parts[1])
        before = sum(self.depths[:level])
        if parts[2] == 'blocks':
            return 1 + before + int(parts[3])
        if parts[2] == 'post_norms':
            return 1 + before + self._level(level).post_norm_ids[int(parts[3])]
        return 1 + before + self.depths[level]

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Drop the center of a full kernel from offsets and masks, for a model with ``remove_center``."""
        for part, numbers in (('.dcn.mask.', 1), ('.dcn.offset.', 2)):
            if part in name and value.shape[1:] == own.shape[1:]:
                taps = value.unflatten(0, (-1, 9, numbers))
                kept = torch.cat([taps[:, :4], taps[:, 5:]], 1).flatten(0, 2)
                return kept if kept.shape == own.shape else None
        return None

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the stem and the first ``frozen_stages`` levels, each with its downsampling."""
        return [self.patch_embed, *self.levels[:self.frozen_stages]]

    def _level(self, index: int) -> Level:
        return cast(Level, self.levels[index])  # ModuleList has no type parameter

    def _after_last_map(self) -> list[nn.Module]:
        last = max(self.out_indices)
        unused = [self.levels[last].downsample, *self.levels[last + 1:]]
        return [part for part in unused if part is not None]


def _read_arch(arch: str | dict, given: dict) -> tuple[dict, dict]:
    """Return sizes and options for a name or dict; values given by the caller (not None) take precedence."""
    if isinstance(arch, str):
        arch = _LETTERS.get(arch.lower(), arch.lower())
    arch = choose_arch(arch, ARCHS, _SIZES, _VARIANT)
    variant = {**_VARIANT, **{key: value for key, value in arch.items() if key in _VARIANT}}
    variant.update({key: value for key, value in given.items() if value is not None})
    if isinstance(variant['layer_scale'], bool):
        variant['layer_scale'] = float(variant['layer_scale'])
    return {key: arch[key] for key in _SIZES}, variant


def _check(model: InternImage, channels: Sequence[int], groups: Sequence[int], variant: dict, act: str,
           drop_path_type: str) -> None:
    depths = model.depths
    check_range(0, inf, layer_scale=variant['layer_scale'])
    check_positive(offset_scale=variant['offset_scale'])
    kernel = variant['dw_kernel_size']
    if kernel is not None and (not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0):
        raise UserError(f'dw_kernel_size={kernel!r} must be an odd number of at least 1')
    if wrong := [(c, g) for c, g in zip(channels, groups) if c % g]:
        raise UserError(f'{wrong[0][0]} channels cannot be split into {wrong[0][1]} groups; change channels or groups')
    check_frozen_stages(model.frozen_stages, 4, 'levels')
    check_indexes(depths[2], level2_post_norm_block_ids=variant['level2_post_norm_block_ids'])
    if len(set(variant['level2_post_norm_block_ids'])) < len(variant['level2_post_norm_block_ids']):
        raise UserError(f"level2_post_norm_block_ids={variant['level2_post_norm_block_ids']!r} has a block twice")
    check_choice('act_layer', act, _ACTIVATIONS)
    check_choice('drop_path_type', drop_path_type, ('linear', 'uniform'))
