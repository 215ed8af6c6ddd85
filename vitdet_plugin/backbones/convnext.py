"""ConvNeXt and ConvNeXt V2 as a backbone (Liu et al., arXiv 2201.03545; Woo et al., arXiv 2301.00808)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from math import inf
from typing import Any

import torch
from mmengine.registry import MODELS
from timm.layers.grn import GlobalResponseNorm
from timm.models.convnext import ConvNeXtBlock, ConvNeXtStage
from torch import Tensor, nn

from vitdet_plugin.backbones.arguments import check_frozen_stages, check_out_indices, choose_arch, drop_path_rates
from vitdet_plugin.backbones.base import Backbone
from vitdet_plugin.layers.mlp import Mlp
from vitdet_plugin.layers.norm import LayerNorm2d
from vitdet_plugin.utils.arguments import check_range, check_sizes, check_whole


def _v2(depths: tuple[int, ...], width: int) -> dict:
    return dict(depths=depths, dims=tuple(width * 2 ** i for i in range(4)), use_grn=True)


# Section 3 of the first paper, table 10 of the second; any other size is given as a dict with the same keys.
ARCHS = {
    'tiny': dict(depths=(3, 3, 9, 3), dims=(96, 192, 384, 768)),
    'small': dict(depths=(3, 3, 27, 3), dims=(96, 192, 384, 768)),
    'base': dict(depths=(3, 3, 27, 3), dims=(128, 256, 512, 1024)),
    'large': dict(depths=(3, 3, 27, 3), dims=(192, 384, 768, 1536)),
    'xlarge': dict(depths=(3, 3, 27, 3), dims=(256, 512, 1024, 2048)),
    'v2_atto': _v2((2, 2, 6, 2), 40),
    'v2_femto': _v2((2, 2, 6, 2), 48),
    'v2_pico': _v2((2, 2, 6, 2), 64),
    'v2_nano': _v2((2, 2, 8, 2), 80),
    'v2_tiny': _v2((3, 3, 9, 3), 96),
    'v2_base': _v2((3, 3, 27, 3), 128),
    'v2_large': _v2((3, 3, 27, 3), 192),
    'v2_huge': _v2((3, 3, 27, 3), 352),
}
BLOCKS_PER_LAYER = 3  # blocks of the third stage that share a learning rate, as in the official fine-tuning


@MODELS.register_module()
class ConvNeXtBackbone(Backbone):
    """ConvNeXt stages of strides 4, 8, 16, 32 built from timm's blocks, with a LayerNorm on every returned map.

    Args:
        arch: A key of :data:`ARCHS` ('tiny' ... 'xlarge', 'v2_atto' ... 'v2_huge') or
            ``dict(depths=, dims=, use_grn=False)`` with four depths and widths.
        out_indices: Stages whose maps are returned, ascending. Later stages are not built.
        out_norms: Normalize each returned map over its channels, as the official detectors do; False for
            classifiers, whose head averages the map before it normalizes.
        layer_scale_init_value: Initial value of each block's ``gamma``; 0 for no ``gamma``. None: 1e-6, or 0 with GRN.
        norm_eps: ``eps`` of all LayerNorms.
        drop_path_rate: Stochastic depth, rising linearly from 0 to this rate over all four stages.
        frozen_stages: -1 for none; 0 for the stem; n for the first n stages with their downsampling as well.
        with_cp: Recompute the blocks in the backward pass to save memory.

    Input (B, in_channels, H, W), H and W multiples of the last stride; output one map (B, dims[i], H / s, W / s) for
    each i of ``out_indices``, s = 4 * 2 ** i. mmpretrain registers the name ``ConvNeXt``, hence the suffix
    ``Backbone``.
    """

    optional_weights = ('norm[0-9]*',)
    key_weights = ('stem.0.weight', 'stages.0.blocks.0.conv_dw.weight')
    # gamma, GRN and norms on two of the maps
    small = dict(arch=dict(depths=(1, 1, 4, 1), dims=(8, 16, 24, 32), use_grn=True), layer_scale_init_value=1.0,
                 out_indices=(1, 3))
    stem_parts = ('stem',)
    all_out_indices = (0, 1, 2, 3)

    def __init__(self, arch: str | dict = 'tiny', *, in_channels: int = 3, out_indices: Sequence[int] = (0, 1, 2, 3),
                 out_norms: bool = True, layer_scale_init_value: float | None = None, norm_eps: float = 1e-6,
                 drop_path_rate: float = 0.0, frozen_stages: int = -1, with_cp: bool = False,
                 init_cfg: dict | list[dict] | None = None, pretrained: str | bool | None = None) -> None:
        super().__init__(init_cfg, pretrained)
        depths, dims, use_grn = _sizes(arch)
        out_indices = check_out_indices(out_indices, 4)
        stages = out_indices[-1] + 1
        check_whole(1, in_channels=in_channels)
        check_range(0, 1, drop_path_rate=drop_path_rate)
        check_frozen_stages(frozen_stages, stages, 'stages')
        if layer_scale_init_value is None:
            layer_scale_init_value = 0.0 if use_grn else 1e-6
        check_range(0, inf, norm_eps=norm_eps, layer_scale_init_value=layer_scale_init_value)
        self.depths, self.dims, self.out_indices = depths[:stages], dims[:stages], out_indices
        self.out_channels = tuple(dims[i] for i in out_indices)
        self.out_strides = tuple(4 * 2 ** i for i in out_indices)
        self.in_channels, self.size_divisor = in_channels, self.out_strides[-1]
        self.frozen_stages, self.drop_path_rate = frozen_stages, drop_path_rate
        self.layer_scale_init_value = layer_scale_init_value

        def norm_layer(channels: int, **kwargs: Any) -> nn.Module:
            return LayerNorm2d(channels, eps=norm_eps)

        def norm_layer_cl(channels: int, **kwargs: Any) -> nn.Module:
            return nn.LayerNorm(channels, eps=norm_eps)

        self.stem = nn.Sequential(nn.Conv2d(in_channels, dims[0], kernel_size=4, stride=4), norm_layer(dims[0]))
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList()
        for i in range(stages):
            stage = ConvNeXtStage(
                dims[max(i - 1, 0)], dims[i], stride=1 if i == 0 else 2, depth=depths[i],
                drop_path_rates=list(islice(rates, depths[i])), ls_init_value=layer_scale_init_value or None,
                use_grn=use_grn, norm_layer=norm_layer, norm_layer_cl=norm_layer_cl)
            self.stages.append(stage)
            for block in stage.blocks if not use_grn else ():  # GRN needs the whole map
                block.mlp = Mlp(dims[i], 4 * dims[i])
        self.with_cp = with_cp
        for i in out_indices if out_norms else ():
            self.add_module(f'norm{i}', norm_layer(dims[i]))
        self.reset_parameters()
        self.train()  # freezes stages now: optimizers and DDP read requires_grad before training starts

    @property
    def with_cp(self) -> bool:
        """Whether the blocks are recomputed in the backward pass."""
        return self._with_cp

    @with_cp.setter
    def with_cp(self, value: bool) -> None:
        self._with_cp = value
        stage: ConvNeXtStage
        for stage in self.stages:
            stage.grad_checkpointing = value

    def reset_parameters(self) -> None:
        """Truncated normal (std 0.02) for weights, zeros for biases and GRN, ones for norms; sets ``gamma``."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, (nn.LayerNorm, LayerNorm2d)):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, GlobalResponseNorm):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, ConvNeXtBlock) and module.gamma is not None:
                nn.init.constant_(module.gamma, self.layer_scale_init_value)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, in_channels, H, W) -> one (B, dims[i], H / s, W / s) for each i of ``out_indices``."""
        return self.run(self.embed(x))

    def embed(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, dims[0], H / 4, W / 4)."""
        # the blocks normalize over the last axis: with channels last their permutations copy nothing
        return self.stem(self.check_images(x).contiguous(memory_format=torch.channels_last))

    def run(self, embedded: Tensor, added: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """See :meth:`Backbone.run`; maps are added after the downsampling of a stage."""
        x, outs = embedded, []
        stage: ConvNeXtStage
        for i, stage in enumerate(self.stages):
            x = stage(x) if added is None else self._run_blocks(stage, stage.downsample(x) + added[i])
            if i in self.out_indices:
                norm = getattr(self, f'norm{i}', None)
                outs.append(x if norm is None else norm(x))
        return tuple(outs)

    def _run_blocks(self, stage: ConvNeXtStage, x: Tensor) -> Tensor:
        for block in stage.blocks:
            x = self.checkpointed(block, x)
        return x

    def entries(self) -> list[tuple[int, int]]:
        """Return channels and stride of the first block of each stage."""
        return [(dim, 4 * 2 ** i) for i, dim in enumerate(self.dims)]

    @property
    def num_layers(self) -> int:
        """Number of layers as in the official fine-tuning: 6 for depths 3, 3, 9, 3 and 12 for 3, 3, 27, 3."""
        return self._layer_of_stage(len(self.depths) - 1, self.depths[-1] - 1)

    def _layer_of_stage(self, stage: int, block: int = 0) -> int:
        if stage < 2:
            return stage + 1
        if stage == 2:
            return 3 + block // BLOCKS_PER_LAYER
        return 4 + (self.depths[2] - 1) // BLOCKS_PER_LAYER

    def get_layer_id(self, name: str) -> int:
        """Return 0 for the stem, 1 and 2 for two stages, then one id for three blocks, one for the last stage.

        Norms of the returned maps have ``num_layers + 1``. This is the rule of the official fine-tuning
        (arXiv 2201.03545, appendix A.2, and ``layer_wise`` in its code).
        """
        part, *rest = name.split('.')
        if part == 'stem':
            return 0
        if part == 'stages':
            stage = int(rest[0])
            return self._layer_of_stage(stage, int(rest[2]) if rest[1] == 'blocks' else 0)
        return self.num_layers + 1

    def stages_to_freeze(self) -> list[nn.Module | nn.Parameter]:
        """Return the stem and the first ``frozen_stages`` stages."""
        return [self.stem, *self.stages[:self.frozen_stages]]


def _sizes(arch: str | dict) -> tuple[tuple[int, ...], tuple[int, ...], bool]:
    sizes = choose_arch(arch, ARCHS, ('depths', 'dims'), ('use_grn',))
    check_sizes(4, least=0, **{'arch.depths': sizes['depths']})
    check_sizes(4, **{'arch.dims': sizes['dims']})
    return tuple(sizes['depths']), tuple(sizes['dims']), sizes.get('use_grn', False)
