"""ViTDet: the plain vision transformer as a detection backbone (Li et al., arXiv 2203.16527)."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.layers import DropPath
from torch import Tensor, nn

from vitdet_plugin.backbones.arguments import (
    check_choice,
    check_frozen_stages,
    choose_arch,
    drop_path_rates,
    ends_of_quarters,
)
from vitdet_plugin.backbones.base import Backbone, enter_stage
from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.layers.conv_block import ResidualConvBlock
from vitdet_plugin.layers.mlp import Mlp
from vitdet_plugin.layers.pos_embed import ResizedPosEmbed, fit_stored_pos_embed, resize_kernel
from vitdet_plugin.utils.arguments import check_heads, check_indexes, check_range, check_whole

# Table 1 of the paper's appendix; any other size is given as a dict with the same keys.
ARCHS = {
    'base': dict(embed_dim=768, depth=12, num_heads=12),
    'large': dict(embed_dim=1024, depth=24, num_heads=16),
    'huge': dict(embed_dim=1280, depth=32, num_heads=16),
}
# Kinds of blocks that exchange information between windows; by default the last block of each quarter of the depth.
CONV_KINDS = ('naive', 'basic', 'bottleneck')
PROPAGATIONS = ('none', 'global', 'shifted', *(f'conv_{kind}' for kind in CONV_KINDS))


class PatchEmbed(nn.Module):
    """(B, in_channels, H, W) -> (B, H / patch, W / patch, dim) by one strided convolution."""

    def __init__(self, in_channels: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, x: Tensor) -> Tensor:
        # contiguous, as the sums of the residual branches keep the layout of their first term
        return self.proj(x).permute(0, 2, 3, 1).contiguous()


class Block(nn.Module):
    """Pre-norm transformer block over a token map (B, H, W, C), with an optional convolution block at its end."""

    def __init__(self, dim: int, attn: WindowAttention, *, mlp_ratio: float, drop_path: float, norm_eps: float,
                 residual_block: str | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
        self.residual = ResidualConvBlock(dim, residual_block) if residual_block else None

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        if self.residual is not None:
            x = self.residual(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x


@MODELS.register_module()
class ViTDet(Backbone):
    """Plain ViT with windowed attention and a few propagating blocks; one feature map of stride ``patch_size``.

    Args:
        arch: 'base', 'large', 'huge' or ``dict(embed_dim=, depth=, num_heads=)``.
        img_size: Side in pixels for which the global relative position tables are learned. Inputs may have any size,
            square or not; the tables are interpolated.
        window_size: Side of the windows in tokens.
        propagation: One of 'none', 'global', 'shifted', 'conv_naive', 'conv_basic', 'conv_bottleneck', for
            the blocks ``propagation_indexes`` (default: the last block of each quarter of the depth).
        global_block_indexes, shifted_block_indexes, residual_block_indexes: Blocks of each kind, in addition to
            ``propagation``; ``residual_block`` is the kind of the convolution blocks.
        drop_path_rate: Stochastic depth, rising linearly from 0 to this rate.
        pretrain_img_size, pretrain_use_cls_token: Grid of ``pos_embed``, and whether it has a class slot.
        attention: Implementation of the attention, see :mod:`vitdet_plugin.ops.rel_pos_attention`.
        frozen_stages: -1 for none; 0 for patch and position embedding; n for the first n blocks as well.
        with_cp: Recompute the blocks in the backward pass to save memory.

    Input (B, in_channels, H, W), H and W multiples of ``patch_size``; output a tuple of one map
    (B, embed_dim, H / patch_size, W / patch_size).
    """

    optional_weights = ('*.rel_pos_[hw]', '*.residual.*')
    key_weights = ('patch_embed.proj.weight', 'blocks.0.attn.qkv.weight')
    # 6 x 6 tokens, which the windows do not divide; windowed, global, shifted and convolutional blocks
    small = dict(arch=dict(embed_dim=32, depth=4, num_heads=2), img_size=96, window_size=4, pretrain_img_size=64,
                 propagation='none', global_block_indexes=[1], shifted_block_indexes=[2], residual_block_indexes=[3])

    def __init__(self, arch: str | dict = 'base', *, img_size: int = 1024, patch_size: int = 16, in_channels: int = 3,
                 window_size: int = 14, propagation: str = 'global', propagation_indexes: Sequence[int] | None = None,
                 global_block_indexes: Sequence[int] = (), shifted_block_indexes: Sequence[int] = (),
                 residual_block_indexes: Sequence[int] = (), residual_block: str = 'bottleneck', mlp_ratio: float = 4.0,
                 qkv_bias: bool = True, drop_path_rate: float = 0.1, norm_eps: float = 1e-6, use_abs_pos: bool = True,
                 use_rel_pos: bool = True, pretrain_img_size: int = 224, pretrain_use_cls_token: bool = True,
                 attention: str = 'auto', frozen_stages: int = -1, with_cp: bool = False,
                 init_cfg: dict | list[dict] | None = None, pretrained: str | bool | None = None) -> None:
        super().__init__(init_cfg, pretrained)
        sizes = choose_arch(arch, ARCHS, ('embed_dim', 'depth', 'num_heads'))
        dim, depth, num_heads = sizes['embed_dim'], sizes['depth'], sizes['num_heads']
        check_heads(num_heads, embed_dim=dim)
        check_whole(1, depth=depth, patch_size=patch_size, in_channels=in_channels)
        check_whole(patch_size, img_size=img_size, pretrain_img_size=pretrain_img_size)
        check_whole(0, window_size=window_size)
        check_range(0, inf, mlp_ratio=mlp_ratio, norm_eps=norm_eps)
        check_choice('residual_block', residual_block, CONV_KINDS)
        check_choice('propagation', propagation, PROPAGATIONS)
        check_range(0, 1, drop_path_rate=drop_path_rate)
        check_frozen_stages(frozen_stages, depth, 'blocks')
        if propagation_indexes is None:
            propagation_indexes = ends_of_quarters(depth)
        check_indexes(depth, propagation_indexes=propagation_indexes, global_block_indexes=global_block_indexes,
                      shifted_block_indexes=shifted_block_indexes, residual_block_indexes=residual_block_indexes)
        kinds = {'global': set(global_block_indexes), 'shifted': set(shifted_block_indexes),
                 'conv': set(residual_block_indexes)}
        if propagation != 'none':
            kind, _, block = propagation.partition('_')
            kinds[kind] |= set(propagation_indexes)
            residual_block = block or residual_block
        if both := sorted(kinds['global'] & kinds['shifted']):
            raise UserError(f'blocks {both} are both global and shifted (shifted_block_indexes); choose one')

        self.embed_dim, self.patch_size, self.frozen_stages, self.with_cp = dim, patch_size, frozen_stages, with_cp
        self.out_channels, self.out_strides = (dim,), (patch_size,)
        self.in_channels, self.size_divisor = in_channels, patch_size
        self.size_divisor_name = f'patch_size={patch_size}'
        self.patch_embed = PatchEmbed(in_channels, dim, patch_size)
        positions = (pretrain_img_size // patch_size) ** 2 + pretrain_use_cls_token
        self.pos_embed = nn.Parameter(torch.zeros(1, positions, dim)) if use_abs_pos else None
        self._abs_pos = ResizedPosEmbed(has_cls_slot=pretrain_use_cls_token)
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList()
        for i in range(depth):
            window = 0 if i in kinds['global'] else window_size
            rel_pos_size = (window or img_size // patch_size) if use_rel_pos else None
            attn = WindowAttention(dim, num_heads, qkv_bias=qkv_bias, window_size=window, form=attention,
                                   shift=window // 2 if i in kinds['shifted'] else 0, rel_pos_size=rel_pos_size)
            self.blocks.append(Block(dim, attn, mlp_ratio=mlp_ratio, drop_path=rates[i], norm_eps=norm_eps,
                                     residual_block=residual_block if i in kinds['conv'] else None))
        self.reset_parameters()
        self.train()  # freezes stages now: optimizers and DDP read requires_grad before training starts

    def reset_parameters(self) -> None:
        """Truncated normal (0.02) for linear weights and ``pos_embed``; relative positions and biases zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, ResidualConvBlock):
                module.init_weights()
            elif isinstance(module, WindowAttention):
                for table in (module.rel_pos_h, module.rel_pos_w):
                    if table is not None:
                        nn.init.zeros_(table)
        self.patch_embed.proj.reset_parameters()
        if self.pos_embed is not None:
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        """(B, in_channels, H, W) -> ((B, embed_dim, H / patch, W / patch),)."""
        return self.run(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, H / patch, W / patch, embed_dim), with absolute positions."""
        x = self.patch_embed(self.check_images(x))
        if self.pos_embed is not None:
            x = x + self._abs_pos(self.pos_embed, x.shape[1:3], training=self.training)
        return x

    def run(self, embedded: Tensor, added: Sequence[Tensor] | None = None) -> tuple[Tensor]:
        """See :meth:`Backbone.run`; the only stage is that of the first block."""
        x = enter_stage(embedded, added, 0)
        for block in self.blocks:
            x = self.checkpointed(block, x)
        return (x.permute(0, 3, 1, 2),)

    def entries(self) -> list[tuple[int, int]]:
        """Return channels and stride of the tokens."""
        return [(self.out_channels[-1], self.out_strides[-1])]

    @property
    def num_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def get_layer_id(self, name: str) -> int:
        """Return 0 for the embeddings, i + 1 for block i; convolution blocks count as new layers, as in detectron2."""
        if name.startswith(('patch_embed.', 'pos_embed')):
            return 0
        if name.startswith('blocks.') and '.residual.' not in name:
            return int(name.split('.')[1]) + 1
        return self.num_layers + 1

    def resize_weight(self, name: str, value: Tensor, own: Tensor) -> Tensor | None:
        """Resize position embedding and patch kernel (bicubic) and relative position tables (linear)."""
        if name == 'pos_embed':
            return fit_stored_pos_embed(value, own)
        if name == 'patch_embed.proj.weight' and value.shape[:2] == own.shape[:2]:
            return resize_kernel(value, own.shape[2:])
        if name.endswith(('rel_pos_h', 'rel_pos_w')) and value.shape[1] == own.shape[1]:
            return F.interpolate(value.float().T[None], size=len(own), mode='linear')[0].T
        return None

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the embeddings and the first ``frozen_stages`` blocks."""
        embeddings = [self.patch_embed] + ([self.pos_embed] if self.pos_embed is not None else [])
        return [*embeddings, *self.blocks[:self.frozen_stages]]
