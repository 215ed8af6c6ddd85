"""VOLO: Vision Outlooker (Yuan et al., arXiv 2106.13112), for detectors and classifiers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
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
from vitdet_plugin.layers.mlp import Mlp
from vitdet_plugin.layers.outlook import OutlookAttention
from vitdet_plugin.layers.pos_embed import resize_grid
from vitdet_plugin.ops.linear import linear
from vitdet_plugin.ops.rel_pos_attention.cpu import compiled_attention
from vitdet_plugin.utils.arguments import (
    check_keys,
    check_lengths,
    check_positive,
    check_range,
    check_sizes,
    check_whole,
)
from vitdet_plugin.utils.exporting import is_exporting
from vitdet_plugin.utils.module_hooks import has_hooks


def _arch(layers: tuple[int, ...], dim: int, heads: tuple[int, int], mlp_ratio: float = 3.0, stem: int = 64) -> dict:
    return dict(layers=layers, embed_dims=(dim, *[2 * dim] * 3), num_heads=(heads[0], *[heads[1]] * 3),
                mlp_ratios=(mlp_ratio,) * 4, stem_hidden_dim=stem)


# Table 2 of the paper: blocks of the four stages, channels before and after the downsampling, heads likewise.
ARCHS = {
    'd1': _arch((4, 4, 8, 2), 192, (6, 12)),
    'd2': _arch((6, 4, 10, 4), 256, (8, 16)),
    'd3': _arch((8, 8, 16, 4), 256, (8, 16)),
    'd4': _arch((8, 8, 16, 4), 384, (12, 16)),
    'd5': _arch((12, 12, 20, 4), 384, (12, 16), mlp_ratio=4.0, stem=128),
}
NORM_EPS = 1e-5
_LEVELS = 3  # first stage, last stage, one coarser
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)
MIX_BOX = 'mix_box'  # metainfo of data samples: the box of MixedImages

Box = tuple[int, int, int, int]  # (top, bottom, left, right), ends exclusive


class MixedImages(NamedTuple):
    """A batch of images whose tokens are exchanged in a box, see ``MixTokenDataPreprocessor``.

    Attributes:
        images: (B, C, H, W).
        box: Box in cells of the map of stride 16; its tokens are those of the reversed batch.
    """

    images: Tensor
    box: Box


class PatchEmbed(nn.Module):
    """(B, in_channels, H, W) -> (B, H / patch, W / patch, dim): three convolutions (the first of stride 2), patches."""

    def __init__(self, in_channels: int, hidden_dim: int, dim: int, patch_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, kernel, stride in ((in_channels, 7, 2), (hidden_dim, 3, 1), (hidden_dim, 3, 1)):
            layers += [nn.Conv2d(channels, hidden_dim, kernel, stride=stride, padding=kernel // 2, bias=False),
                       nn.BatchNorm2d(hidden_dim), nn.ReLU(inplace=True)]
        self.conv = nn.Sequential(*layers)
        self.proj = nn.Conv2d(hidden_dim, dim, patch_size // 2, stride=patch_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)  # the order of the tokens, so nothing is copied later
        for i in range(0, len(self.conv), 3):
            x = self.conv[i + 2](_normalized_conv(x, self.conv[i], self.conv[i + 1]))
        return self.proj(x).permute(0, 2, 3, 1)


def _normalized_conv(x: Tensor, conv: Any, norm: Any) -> Tensor:
    """Compute ``norm(conv(x))``; at inference with the statistics as part of the kernel."""
    foldable = type(conv) is nn.Conv2d and type(norm) in _NORMS and not has_hooks(conv, norm)
    if not foldable or norm.training or norm.running_mean is None or torch.is_grad_enabled() or is_exporting():
        return norm(conv(x))
    mean, variance = norm.running_mean, norm.running_var
    factor = norm.weight * (variance + norm.eps).rsqrt()
    return F.conv2d(x, conv.weight * factor[:, None, None, None], norm.bias - mean * factor,
                    conv.stride, conv.padding)


class Attention(nn.Module):
    """Multi-head self-attention among all tokens of a map (B, H, W, C)."""

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool, scale: float | None) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, scale
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = linear(self.qkv, x.flatten(1, 2)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # (B, heads, H * W, C / heads) each
        with compiled_attention(q):
            out = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return linear(self.proj, out.transpose(1, 2).reshape(x.shape))


class Block(nn.Module):
    """Pre-norm residual block over a map (B, H, W, C): outlook or self-attention, then an MLP."""

    def __init__(self, dim: int, attn: nn.Module, *, mlp_ratio: float, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class Downsample(nn.Module):
    """(B, H, W, C) -> (B, H / 2, W / 2, C')."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(dim, out_dim, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@MODELS.register_module()
class VOLO(Backbone):
    """Outlookers at stride 8, transformer blocks at stride 16. ``VOLOClsHead`` has the rest of a classifier.

    Args:
        arch: 'd1' ... 'd5' or a dict with the same keys as those of ``ARCHS``.
        img_size: Side(s) in pixels for which ``pos_embed`` is learned. Inputs may have any size: it is resized to
            their grid, and zero pixels are appended to a multiple of 16.
        patch_size: Side of the patches in pixels.
        out_indices: Maps to return: 0 from the outlookers (stride 8), 1 from the last stage (stride 16), 2 of stride
            32, computed from map 1. Classifiers use (1,), detectors (0, 1, 2).
        out_norm: Whether each map has a LayerNorm. Default: True, unless the last stage's is the only map, which the
            classification head normalizes.
        extra_level: How map 2 is computed: 'pool' (average of 2 x 2) or 'conv' (2 x 2, stride 2).
        downsamples, outlook_attention: For each stage, whether a downsampling follows, and the kind of its blocks.
        outlook: Arguments of :class:`vitdet_plugin.layers.outlook.OutlookAttention`, e.g. ``dict(form='plain')``.
        qkv_bias, qk_scale: Parameters of all attention layers; ``qk_scale`` None is (channels per head) ** -0.5.
        drop_path_rate: Stochastic depth, rising linearly over all blocks; none in outlookers, as in the official code.
        mix_token: Not supported any more; use ``MixTokenDataPreprocessor``.
        norm_eval: Keep the stem's BatchNorm in eval mode, for small batches and pre-trained weights.
        frozen_stages: -1 nothing; 0 stem and ``pos_embed``; n also the first n stages with their downsampling.
        with_cp: Recompute the blocks in the backward pass to save memory.
    """

    optional_weights = ('out_norms.*',)
    key_weights = ('patch_embed.conv.0.weight', 'network.0.0.norm1.weight')
    # both kinds of blocks, a norm on every map, 3 x 5 positions
    small = dict(arch=dict(layers=(2, 1, 2, 1), embed_dims=(32, 48, 48, 48), num_heads=(2, 4, 4, 4),
                           mlp_ratios=(3, 3, 3, 2), stem_hidden_dim=4),
                 img_size=(48, 80), out_indices=(0, 1, 2), extra_level='conv')
    stem_parts = ('patch_embed',)
    all_out_indices = (0, 1, 2)

    def __init__(self, arch: str | dict = 'd1', *, img_size: int | Sequence[int] = 224, patch_size: int = 8,
                 in_channels: int = 3, out_indices: Sequence[int] = (1,), out_norm: bool | None = None,
                 extra_level: str = 'pool', downsamples: Sequence[bool] = (True, False, False, False),
                 outlook_attention: Sequence[bool] = (True, False, False, False), outlook: dict | None = None,
                 qkv_bias: bool = False, qk_scale: float | None = None, drop_path_rate: float = 0.0,
                 mix_token: bool = False, norm_eval: bool = False, frozen_stages: int = -1, with_cp: bool = False,
                 init_cfg: dict | list[dict] | None = None, pretrained: str | bool | None = None) -> None:
        super().__init__(init_cfg, pretrained)
        sizes = choose_arch(arch, ARCHS, ARCHS['d1'])
        layers, dims = sizes['layers'], sizes['embed_dims']
        check_whole(1, patch_size=patch_size, in_channels=in_channels)
        _check_sizes(sizes, downsamples=downsamples, outlook_attention=outlook_attention)
        check_keys(('form', 'kernel_size', 'stride', 'padding', 'dropout'), outlook=outlook)
        if not downsamples[0] or downsamples[-1]:
            raise UserError(f'downsamples={downsamples!r} must be True for the first stage and False for the last')
        check_range(0, 1, drop_path_rate=drop_path_rate)
        _check(layers, out_indices, extra_level, frozen_stages, patch_size)
        if mix_token:
            raise UserError("mix_token=True: tokens are mixed by the data preprocessor now; remove it and set "
                            "model.data_preprocessor=dict(type='MixTokenDataPreprocessor', ...)")
        self.layers, self.frozen_stages, self.with_cp = tuple(layers), frozen_stages, with_cp
        self.in_channels, self.norm_eval = in_channels, norm_eval
        self.patch_embed = PatchEmbed(in_channels, sizes['stem_hidden_dim'], dims[0], patch_size)
        rates, done = drop_path_rates(drop_path_rate, sum(layers)), 0
        self.network = nn.ModuleList()  # official numbering: a stage, its downsampling if any, the next stage ...
        self._stage_ends: list[int] = []  # for each stage, number of parts up to its end
        for stage, depth in enumerate(layers):
            blocks = nn.Sequential()
            for i in range(done, done + depth):
                common: dict[str, Any] = dict(qkv_bias=qkv_bias, scale=qk_scale)
                attn: nn.Module
                if outlook_attention[stage]:
                    attn = OutlookAttention(dims[stage], sizes['num_heads'][stage], **common, **outlook or {})
                else:
                    attn = Attention(dims[stage], sizes['num_heads'][stage], **common)
                rate = 0.0 if outlook_attention[stage] else rates[i]
                blocks.append(Block(dims[stage], attn, mlp_ratio=sizes['mlp_ratios'][stage], drop_path=rate))
            done += depth
            self.network.append(blocks)
            if downsamples[stage]:
                self.network.append(Downsample(dims[stage], dims[stage + 1]))
            self._stage_ends.append(len(self.network))
        # added before part 2: after the outlookers and their downsampling
        strides = (patch_size, patch_size * 2 ** sum(downsamples), patch_size * 2 ** (sum(downsamples) + 1))
        pos_stride = patch_size * 2 ** sum(isinstance(part, Downsample) for part in self.network[:2])
        sides = image_sides(img_size, pos_stride)
        self.pos_embed = nn.Parameter(torch.zeros(1, *(side // pos_stride for side in sides), dims[-1]))
        self.out_indices, self.divisor, self._ratio = tuple(out_indices), strides[1], strides[1] // strides[0]
        channels = (dims[0], dims[-1], dims[-1])
        self._entries = list(zip(channels, strides))[:2]
        self.out_channels = tuple(channels[i] for i in out_indices)
        self.out_strides = tuple(strides[i] for i in out_indices)
        self.extra_level = nn.Conv2d(dims[-1], dims[-1], 2, stride=2) if extra_level == 'conv' and 2 in out_indices \
            else None
        out_norm = self.out_indices != (1,) if out_norm is None else out_norm
        self.out_norms = nn.ModuleList(nn.LayerNorm(n, eps=NORM_EPS) for n in self.out_channels) if out_norm else None
        self.reset_parameters()
        self.train()  # freezes stages now: optimizers and DDP read requires_grad before training starts

    def reset_parameters(self) -> None:
        """Truncated normal (0.02) for linear weights and ``pos_embed``, zero biases, else PyTorch's defaults."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.Conv2d, nn.LayerNorm, *_NORMS)):
                module.reset_parameters()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor | MixedImages) -> tuple[Tensor, ...]:
        """Compute one map for each of ``out_indices``.

        Args:
            x: Images (B, in_channels, H, W); of :class:`MixedImages`, tokens are exchanged after the stem.

        Returns:
            Maps (B, C_i, H / stride_i, W / stride_i), sizes rounded up.
        """
        return self.run(self.embed(x))

    def embed(self, x: Tensor | MixedImages) -> Tensor:
        """Images (B, in_channels, H, W) -> tokens (B, H / patch, W / patch, C), mixed as :class:`MixedImages` says."""
        images, box = (x.images, x.box) if isinstance(x, MixedImages) else (x, None)
        images = self.check_images(images)
        height, width = images.shape[2:]
        tokens: Tensor = self.patch_embed(F.pad(images, (0, _missing(width, self.divisor),
                                                         0, _missing(height, self.divisor))))
        if box is not None:
            tokens = paste_reversed(tokens, *(self._ratio * edge for edge in box))
        return tokens

    def run(self, embedded: Tensor, added: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """See :meth:`Backbone.run`; maps are added before the outlookers and before the transformer blocks."""
        tokens, maps = embedded, []
        for index, part in enumerate(self.network):
            if index == 2:
                tokens = tokens + resize_grid(self.pos_embed, tokens.shape[1:3])
            if index in (0, 2):
                tokens = enter_stage(tokens, added, index // 2)
            tokens = self._run_part(part, tokens)
            if index == 0:
                maps.append(tokens)
        maps.append(tokens)
        if 2 in self.out_indices:
            maps.append(self._coarser(tokens))
        outs = [maps[i] for i in self.out_indices]
        if self.out_norms is not None:
            outs = [norm(out) for norm, out in zip(self.out_norms, outs)]
        return tuple(out.permute(0, 3, 1, 2) for out in outs)

    def entries(self) -> list[tuple[int, int]]:
        """Return channels and stride of the outlookers and of the transformer blocks."""
        return self._entries

    def repeated_blocks(self) -> list[nn.Module]:
        """Return the blocks of all stages."""
        return [block for part in self.network if not isinstance(part, Downsample) for block in part.children()]

    def _run_part(self, part: nn.Module, x: Tensor) -> Tensor:
        if not self.with_cp or isinstance(part, Downsample):
            return part(x)
        for block in part.children():
            x = self.checkpointed(block, x)
        return x

    def _coarser(self, x: Tensor) -> Tensor:
        x = x.permute(0, 3, 1, 2)
        if self.extra_level is None:
            x = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        else:
            x = self.extra_level(F.pad(x, (0, _missing(x.shape[-1], 2), 0, _missing(x.shape[-2], 2))))
        return x.permute(0, 2, 3, 1)

    def train(self, mode: bool = True) -> VOLO:
        """Frozen stages, and with ``norm_eval`` the stem's BatchNorm, stay in eval mode."""
        super().train(mode)
        if self.norm_eval:
            for module in self.patch_embed.modules():
                if isinstance(module, _NORMS):
                    module.eval()
        return self

    @property
    def num_layers(self) -> int:
        """Number of blocks of all stages."""
        return sum(self.layers)

    def get_layer_id(self, name: str) -> int:
        """Return 0 for stem and ``pos_embed``, i + 1 for block i; a downsampling has the id of the next block."""
        if name.startswith(('patch_embed.', 'pos_embed')):
            return 0
        if not name.startswith('network.'):
            return self.num_layers + 1
        part, block = name.split('.')[1:3]
        before = sum(len(each) for each in self.network[:int(part)] if isinstance(each, nn.Sequential))
        return before + 1 + (int(block) if block.isdigit() else 0)

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Resize the position embedding to any grid (bicubic)."""
        if name == 'pos_embed' and value.ndim == 4 and value.shape[-1] == own.shape[-1]:
            return resize_grid(value.float(), tuple(own.shape[1:3]))
        return None

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the stem, ``pos_embed`` and the first ``frozen_stages`` stages."""
        parts = self._stage_ends[self.frozen_stages - 1] if self.frozen_stages > 0 else 0
        return [self.patch_embed, self.pos_embed, *self.network[:parts]]


def paste_reversed(x: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Replace a box of ``x`` (B, H, W, C) by that of the reversed batch; applied twice it returns ``x``."""
    mixed = x.clone()
    mixed[:, top:bottom, left:right] = x.flip(0)[:, top:bottom, left:right]
    return mixed


def _missing(size: int, divisor: int) -> int:
    """Return the number to add for a multiple.

    Written so that the padded size is a quotient times ``divisor``, which simplifies all sizes that follow from it.
    """
    if torch.compiler.is_dynamo_compiling():  # products of these sizes have one term, so that inductor is faster
        return (size + divisor - 1) // divisor * divisor - size
    return ((size - 1) // divisor + 1) * divisor - size  # positive for torch.export, too


def _check_sizes(sizes: dict, **flags: Any) -> None:
    check_sizes(None, least=0, **{'arch.layers': sizes['layers']})
    stages = len(sizes['layers'])
    check_sizes(stages, **{f'arch.{name}': sizes[name] for name in ('embed_dims', 'num_heads')})
    check_whole(1, **{'arch.stem_hidden_dim': sizes['stem_hidden_dim']})
    check_lengths(stages, **{'arch.mlp_ratios': sizes['mlp_ratios']}, **flags)
    for ratio in sizes['mlp_ratios']:
        check_positive(**{'arch.mlp_ratios': ratio})
    if len(set(sizes['embed_dims'][1:])) > 1:
        raise UserError(f'arch.embed_dims={sizes["embed_dims"]!r} must be equal from the second stage on')
    for name, value in flags.items():
        if not all(isinstance(each, bool) for each in value):
            raise UserError(f'{name}={value!r} must be a list of True and False')


def _check(layers: Sequence[int], out_indices: Sequence[int], extra_level: str, frozen_stages: int,
           patch_size: int) -> None:
    if check_out_indices(out_indices, _LEVELS) == (0,):
        raise UserError('out_indices=(0,) has neither 1 nor 2; add one of them')
    check_choice('extra_level', extra_level, ('pool', 'conv'))
    check_frozen_stages(frozen_stages, len(layers), 'stages')
    if patch_size % 2:
        raise UserError(f'patch_size={patch_size} must be even: the first convolution has stride 2')
