"""The layer at which class activation maps of a backbone are taken."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch

from torch import Tensor, nn

from vitdet_plugin.backbones.timm_vitdet import TimmViTDet
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.backbones.vitdet import ViTDet

CamLayer = tuple[nn.Module, Callable[[Tensor, tuple[int, int]], Tensor]]


@singledispatch
def cam_layer(backbone: nn.Module) -> CamLayer | None:
    """Return the layer for class activation maps of ``backbone``; None for the last map that it returns.

    Register a function for a backbone whose last map does not localize: its classifier reads few of the positions (end
    tokens), or attention has mixed them.

    Returns:
        A module of the backbone, and a function of the module's output and the input's (H, W) in pixels that returns a
        map (B, C, h, w); or None.
    """
    return None


@cam_layer.register(ViTDet)
def _vitdet(backbone: ViTDet) -> CamLayer:
    """Return the end of the first third of the blocks; later tokens also contain information about other positions."""
    return _block_at_a_third(backbone.blocks), lambda x_bhwc, hw: x_bhwc.permute(0, 3, 1, 2)


@cam_layer.register(TimmViTDet)
def _timm_vitdet(backbone: TimmViTDet) -> CamLayer | None:
    """Return the first norm of a block after the first third if the backbone returns vectors; else its last map."""
    if backbone.out_type == 'featmap':
        return None

    def as_map(tokens: Tensor, hw: tuple[int, int]) -> Tensor:
        grid = hw[0] // backbone.patch_size, hw[1] // backbone.patch_size
        return tokens[:, backbone.num_prefix:].unflatten(1, grid).permute(0, 3, 1, 2)

    return backbone.net.blocks[round(len(backbone.net.blocks) / 3)].norm1, as_map


@cam_layer.register(VisionLSTM)
def _vision_lstm(backbone: VisionLSTM) -> CamLayer | None:
    """Return the end of the first third of the blocks if pooled: only the end tokens of the last have a gradient."""
    if backbone.pooling is None:
        return None

    def as_map(tokens: Tensor, hw: tuple[int, int]) -> Tensor:
        grid = hw[0] // backbone.stride, hw[1] // backbone.stride
        return tokens.unflatten(1, grid).permute(0, 3, 1, 2)

    return _block_at_a_third(backbone.blocks), as_map


def _block_at_a_third(blocks: nn.ModuleList) -> nn.Module:
    return blocks[max(round(len(blocks) / 3) - 1, 0)]
