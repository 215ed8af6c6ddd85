"""Vision-LSTM (ViL): xLSTM blocks over patch tokens in alternating directions (Alkin et al., arXiv 2406.04303)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from timm.layers import DropPath
from torch import Tensor, nn

from vitdet_plugin.backbones.arguments import (
    check_choice,
    check_frozen_stages,
    check_out_indices,
    choose_arch,
    drop_path_rates,
    image_sides,
)
from vitdet_plugin.backbones.base import Backbone, enter_stage
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.norm import LayerNorm2d
from vitdet_plugin.layers.offset_norm import OffsetLayerNorm
from vitdet_plugin.layers.padding import filled_sizes, inside, resize_to_each
from vitdet_plugin.layers.pos_embed import resize_grid, resize_kernel
from vitdet_plugin.layers.vil import ViLLayer
from vitdet_plugin.utils.arguments import check_range, check_whole
from vitdet_plugin.utils.exporting import is_exporting

# Table 1 of the paper; depth counts blocks of one direction. Any other size is given as a dict with the same keys.
ARCHS = {'tiny': dict(dim=192, depth=24), 'small': dict(dim=384, depth=24), 'base': dict(dim=768, depth=24)}
# Differences of the two published versions, apart from the pooling.
VERSIONS: dict[int, dict[str, Any]] = {
    1: dict(conv_kind='causal1d', conv_kernel_size=4, proj_bias=False, norm_bias=False),
    2: dict(conv_kind='2d', conv_kernel_size=3, proj_bias=True, norm_bias=True),
}
POOLINGS = (None, 'bilateral_avg', 'bilateral_flatten')


class PatchEmbed(nn.Module):
    """(B, in_channels, H, W) -> (B, H / stride, W / stride, dim) by one convolution; patches may overlap."""

    def __init__(self, in_channels: int, dim: int, patch_size: int, stride: int) -> None:
        super().__init__()
        if patch_size < stride or (patch_size - stride) % 2:
            raise UserError(f'patch_size={patch_size} and stride={stride}: their difference must be even and not '
                            'negative, so that patches are centered on their tokens')
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=stride, padding=(patch_size - stride) // 2)

    def reset_parameters(self) -> None:
        self.proj.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).permute(0, 2, 3, 1)


class ConvStem(nn.Sequential):
    """As `PatchEmbed`, by 3x3 convolutions of stride 2 and a 1x1 convolution (arXiv 2106.14881); learns faster."""

    def __init__(self, in_channels: int, dim: int, stride: int) -> None:
        halvings = stride.bit_length() - 1
        if stride != 1 << halvings or not halvings:
            raise UserError(f'stride={stride}: a convolutional stem requires a power of two')
        layers: list[nn.Module] = []
        for width in (max(16, dim >> (halvings - 1 - i)) for i in range(halvings)):
            layers += [nn.Conv2d(in_channels, width, 3, stride=2, padding=1), LayerNorm2d(width), nn.GELU()]
            in_channels = width
        super().__init__(*layers, nn.Conv2d(in_channels, dim, 1))

    def reset_parameters(self) -> None:
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
            elif isinstance(layer, LayerNorm2d):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).permute(0, 2, 3, 1)


class Block(nn.Module):
    """``x + drop_path(layer(norm(x)))`` over tokens (B, H * W, dim)."""

    def __init__(self, dim: int, *, drop_path: float, norm_bias: bool, **layer: Any) -> None:
        super().__init__()
        self.norm = OffsetLayerNorm(dim, bias=norm_bias)
        self.layer = ViLLayer(dim, norm_bias=norm_bias, **layer)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor, hw: tuple[int, int], valid: Tensor | None) -> Tensor:
        return x + self.drop_path(self.layer(self.norm(x), hw, valid))


@MODELS.register_module()
class VisionLSTM(Backbone):
    """Vision-LSTM (version 1 or 2) as backbone of detectors and classifiers; maps of one stride.

    Args:
        arch: 'tiny', 'small', 'base' or ``dict(dim=, depth=)``; depth counts blocks of one direction (version 2 counts
            pairs of them).
        version: 1 or 2; sets ``conv_kind`` ('causal1d', '2d'), ``conv_kernel_size`` (4, 3), ``proj_bias`` and
            ``norm_bias``, each of which can also be given.
        img_size: Side or (height, width) in pixels for which ``pos_embed`` is learned. Inputs may have any size, square
            or not; ``pos_embed`` is interpolated.
        stride: Pixels between tokens, by default ``patch_size``; smaller for overlapping patches.
        stem: 'patch' (the paper), or 'conv': a few small convolutions, which learn faster from scratch.
        alternation: 'bidirectional': every other block runs from the bottom right; or 'unidirectional'.
        mlstm: Implementation of the cell, see :mod:`vitdet_plugin.ops.mlstm`; all give the same results.
        drop_path_rate: Stochastic depth of every block; with ``drop_path_decay`` it rises linearly from 0 to this rate.
        out_indices: Blocks after which a map is returned, ascending, ending with the last block (default: only the last
            block). Maps of earlier blocks have a separate LayerNorm.
        pooling: None for maps. For classifiers 'bilateral_avg' (version 1: mean of the first and the last token) or
            'bilateral_flatten' (version 2: both, concatenated), as a map of one position.
        legacy_norm: A norm before the pooling, as in the training code of version 1; version 1 only.
        mask_padding: Detect the padding of a batch (the zeros that the data preprocessor appends on the right and at
            the bottom) and make the results independent of it. Sizes can also be passed to ``forward``.
        frozen_stages: -1 for none; 0 for stem and position embedding; n for the first n blocks as well.
        with_cp: Recompute the blocks in the backward pass to save memory.

    Input (B, in_channels, H, W), H and W multiples of the stride; output a tuple of maps (B, dim, H / stride,
    W / stride), or with ``pooling`` of one (B, dim or 2 dim, 1, 1).
    """

    optional_weights = ('norm.*', 'legacy_norm.*')
    key_weights = ('pos_embed', 'blocks.0.layer.proj_up.weight')
    small = dict(arch=dict(dim=32, depth=4), img_size=64)

    def __init__(self, arch: str | dict = 'tiny', *, version: int = 2, img_size: int | Sequence[int] = 224,
                 patch_size: int = 16, stride: int | None = None, in_channels: int = 3, num_heads: int = 4,
                 stem: str = 'patch', alternation: str = 'bidirectional', conv_kind: str | None = None,
                 conv_kernel_size: int | None = None, proj_bias: bool | None = None, norm_bias: bool | None = None,
                 mlstm: str = 'auto', drop_path_rate: float = 0.0, drop_path_decay: bool = False,
                 out_indices: Sequence[int] | None = None, pooling: str | None = None, legacy_norm: bool = False,
                 mask_padding: bool = False, frozen_stages: int = -1, with_cp: bool = False,
                 init_cfg: dict | list[dict] | None = None, pretrained: str | bool | None = None) -> None:
        super().__init__(init_cfg, pretrained)
        sizes = choose_arch(arch, ARCHS, ('dim', 'depth'))
        dim, depth = sizes['dim'], sizes['depth']
        stride = stride or patch_size
        check_whole(1, dim=dim, depth=depth, patch_size=patch_size, stride=stride, in_channels=in_channels,
                    num_heads=num_heads, conv_kernel_size=1 if conv_kernel_size is None else conv_kernel_size)
        sides = image_sides(img_size, stride)
        out_indices = (depth - 1,) if out_indices is None else check_out_indices(out_indices, depth)
        check_range(0, 1, drop_path_rate=drop_path_rate)
        _check(version, stem, alternation, pooling, legacy_norm, out_indices, depth, frozen_stages)
        given = dict(conv_kind=conv_kind, conv_kernel_size=conv_kernel_size, proj_bias=proj_bias, norm_bias=norm_bias)
        kind = VERSIONS[version] | {name: value for name, value in given.items() if value is not None}

        self.embed_dim, self.patch_size, self.stride, self.version = dim, patch_size, stride, version
        self.in_channels, self.size_divisor, self.size_divisor_name = in_channels, stride, f'the stride {stride}'
        self.frozen_stages, self.with_cp, self.mask_padding = frozen_stages, with_cp, mask_padding
        self.out_indices, self.pooling, self.conv_kind = out_indices, pooling, kind['conv_kind']
        pooled_dim = 2 * dim if pooling == 'bilateral_flatten' else dim
        self.out_channels = (dim,) * len(out_indices) if pooling is None else (pooled_dim,)
        self.out_strides = (stride,) * len(self.out_channels)
        self.patch_embed = (PatchEmbed(in_channels, dim, patch_size, stride) if stem == 'patch'
                            else ConvStem(in_channels, dim, stride))
        self.pos_embed = nn.Parameter(torch.zeros(1, *(side // stride for side in sides), dim))
        rates = drop_path_rates(drop_path_rate, depth, 0.0 if drop_path_decay else drop_path_rate)
        self.blocks = nn.ModuleList(
            Block(dim, drop_path=rates[i], heads=num_heads, reverse=alternation == 'bidirectional' and i % 2 == 1,
                  form=mlstm, **kind) for i in range(depth))
        self.tap_norms = nn.ModuleDict({str(i): nn.LayerNorm(dim, eps=1e-6) for i in out_indices[:-1]})
        self.legacy_norm = OffsetLayerNorm(dim, bias=False) if legacy_norm else None
        # version 1 pools before it normalizes
        self.norm = nn.LayerNorm(pooled_dim, eps=1e-6) if version == 1 else OffsetLayerNorm(
            dim, bias=kind['norm_bias'], eps=1e-6)
        self.reset_parameters()
        self.train()  # freezes stages now: optimizers and DDP read requires_grad before training starts

    def reset_parameters(self) -> None:
        """Initialize each layer by its own rule; truncated normal (std 0.02) for ``pos_embed``."""
        for module in self.modules():
            if isinstance(module, (PatchEmbed, ConvStem, ViLLayer, OffsetLayerNorm, nn.LayerNorm)):
                module.reset_parameters()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor, sizes: Sequence[tuple[int, int]] | Tensor | None = None) -> tuple[Tensor, ...]:
        """Compute the maps.

        Args:
            x: Images (B, in_channels, H, W).
            sizes: Height and width in pixels of each image without its padding, as pairs or as a tensor (B, 2). With
                sizes, or with ``mask_padding``, the positions of an image have the values that they would have without
                padding, up to rounding; the values of padded positions are undefined.

        Returns:
            One map (B, dim, H / stride, W / stride) for each of ``out_indices``, or with ``pooling`` one (B, C, 1, 1).
        """
        return self.run(self.embed(x, sizes))

    def embed(self, x: Tensor, sizes: Sequence[tuple[int, int]] | Tensor | None = None
              ) -> tuple[Tensor, Tensor | None]:
        """Return the patches (B, H / stride, W / stride, dim), and the sizes in tokens without padding."""
        x = self.check_images(x)
        return self.patch_embed(x), self._extents(x, sizes)

    def run(self, embedded: tuple[Tensor, Tensor | None], added: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """See :meth:`Backbone.run`; the only stage is that of the first block."""
        x, extents = enter_stage(embedded[0], added, 0), embedded[1]
        h, w = x.shape[1:3]
        hw = h, w
        if extents is None:
            x, valid, position = (x + resize_grid(self.pos_embed, hw)).flatten(1, 2), None, None
        else:
            x, valid, position = self._mask(x, extents)
        maps = []
        for i, block in enumerate(self.blocks):
            x = self.checkpointed(block, x, hw, valid)
            if i in self.out_indices and self.pooling is None:
                maps.append(self._to_map(self._normalize(i, x), hw, position))
        return tuple(maps) if self.pooling is None else (self._pool(x)[..., None, None],)

    def entries(self) -> list[tuple[int, int]]:
        """Return channels and stride of the tokens."""
        return [(self.embed_dim, self.stride)]

    def _extents(self, images: Tensor, sizes: Sequence[tuple[int, int]] | Tensor | None) -> Tensor | None:
        """Return height and width in tokens of each image without its padding (B, 2); None if there is no padding.

        While a graph is captured, the result does not depend on whether these images have padding.
        """
        if sizes is None and not self.mask_padding:
            return None
        pixels = filled_sizes(images) if sizes is None else torch.as_tensor(sizes)
        whole = images.shape[2] // self.stride, images.shape[3] // self.stride
        extents = torch.stack([(pixels[:, axis] + self.stride - 1).div(self.stride, rounding_mode='floor')
                               .clamp(min=1).clamp(max=whole[axis]) for axis in (0, 1)], 1)
        captured = torch.compiler.is_compiling() or is_exporting() or extents.is_meta
        if captured and self.pooling is not None:
            raise UserError('masking of padding requires maps in a captured graph, because a classifier cannot mask '
                            'images of different sizes; set mask_padding=False')
        if not captured and all(tuple(extent) == whole for extent in extents.tolist()):
            return None
        return extents.to(images.device)

    def _mask(self, x: Tensor, extents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Add the position embedding of each image's own grid, and mark the tokens that are not padding.

        A convolution over the sequence must not mix in the padding between two rows of an image: for it the valid
        tokens are moved to the front.

        Args:
            x: Tokens (B, H, W, dim).
            extents: Height and width in tokens of each image without its padding, (B, 2).

        Returns:
            Tokens (B, H * W, dim), whether each is valid (B, H * W), and the position to which each token of the image
            was moved (B, H * W), or None if the tokens are in their original order.
        """
        if self.pooling is not None:
            raise UserError('images of different sizes in a batch can be masked for maps only; pooling requires '
                            'images of one size')
        h, w = x.shape[1:3]
        x = (x + resize_to_each(self.pos_embed, extents, (h, w))).flatten(1, 2)
        valid = inside(extents, (h, w)).flatten(1)
        if self.conv_kind == '2d':
            return x, valid, None
        # counts instead of a stable sort, which ONNX does not have
        ahead, count = valid.long().cumsum(1), valid.sum(1, keepdim=True)
        index = torch.arange(h * w, device=x.device)
        position = torch.where(valid, ahead - 1, count + index - ahead)
        return torch.zeros_like(x).scatter(1, position[..., None].expand_as(x), x), index < count, position

    def _normalize(self, block: int, x: Tensor) -> Tensor:
        if block != self.out_indices[-1]:
            return self.tap_norms[str(block)](x)
        return self.norm(x if self.legacy_norm is None else self.legacy_norm(x))

    def _to_map(self, x: Tensor, hw: tuple[int, int], position: Tensor | None = None) -> Tensor:
        """(B, H * W, dim) -> (B, dim, H, W)."""
        if position is not None:
            x = x.gather(1, position[..., None].expand_as(x))
        return x.unflatten(1, hw).permute(0, 3, 1, 2)

    def _pool(self, x: Tensor) -> Tensor:
        """(B, S, dim) -> (B, dim or 2 dim), from the tokens at which the two directions end."""
        if self.legacy_norm is not None:
            x = self.legacy_norm(x)
        ends = x[:, [0, -1]]
        if self.version == 2:
            ends = self.norm(ends)
        pooled = ends.mean(1) if self.pooling == 'bilateral_avg' else ends.flatten(1)
        return self.norm(pooled) if self.version == 1 else pooled

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def get_layer_id(self, name: str) -> int:
        """Return 0 for stem and position embedding, i + 1 for block i."""
        if name.startswith(('patch_embed.', 'pos_embed')):
            return 0
        return int(name.split('.')[1]) + 1 if name.startswith('blocks.') else self.num_layers + 1

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Resize position embedding and patch kernel, both bicubic."""
        if name == 'pos_embed' and value.ndim == 4 and value.shape[-1] == own.shape[-1]:
            return resize_grid(value.float(), tuple(own.shape[1:3]))
        if name == 'patch_embed.proj.weight' and value.shape[:2] == own.shape[:2]:
            return resize_kernel(value, own.shape[2:])
        return None

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return stem, position embedding and the first ``frozen_stages`` blocks."""
        return [self.patch_embed, self.pos_embed, *self.blocks[:self.frozen_stages]]


def _check(version: int, stem: str, alternation: str, pooling: str | None, legacy_norm: bool,
           out_indices: tuple[int, ...], depth: int, frozen_stages: int) -> None:
    """Raise `UserError` for unknown values and for arguments that exclude each other."""
    for name, value, known in (('version', version, tuple(VERSIONS)), ('stem', stem, ('patch', 'conv')),
                               ('alternation', alternation, ('bidirectional', 'unidirectional')),
                               ('pooling', pooling, POOLINGS)):
        check_choice(name, value, known)
    if legacy_norm and version != 1:
        raise UserError('legacy_norm=True is for version 1; remove it, as in version 2 the norm is part of the head')
    if out_indices[-1] != depth - 1:
        raise UserError(f'out_indices={out_indices} must end with the last block, {depth - 1}; for fewer blocks set a '
                        'smaller depth')
    if pooling is not None and len(out_indices) > 1:
        raise UserError('pooling is for classifiers, several out_indices are for detectors; set one of them')
    check_frozen_stages(frozen_stages, depth, 'blocks')
