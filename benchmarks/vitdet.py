"""The ViT-B backbone of ViTDet end to end, against the same backbone with materialized attention."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.harness import Row, Step, compare
from benchmarks.reference_attention import ReferenceAttention, relative_error
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.layers.attention import WindowAttention


def _backbone(side: int, depth: int, reference: bool) -> ViTDet:
    torch.manual_seed(0)
    backbone = ViTDet(dict(embed_dim=768, depth=depth, num_heads=12), img_size=side, drop_path_rate=0.0)
    for module in backbone.modules():
        if isinstance(module, WindowAttention):
            torch.nn.init.normal_(module.rel_pos_h, std=0.02)
            torch.nn.init.normal_(module.rel_pos_w, std=0.02)
            if reference:
                module.__class__ = ReferenceAttention  # the same parameters
    return backbone


def _inference(side: int, depth: int, reference: bool) -> Step:
    backbone = _backbone(side, depth, reference).eval()
    image = torch.randn(1, 3, side, side)

    def step() -> Tensor:
        with torch.no_grad():
            return backbone(image)[0]
    return step


def _training(side: int, depth: int, reference: bool) -> Step:
    backbone = _backbone(side, depth, reference)
    image = torch.randn(1, 3, side, side)
    direction = torch.randn(1, 768, side // 16, side // 16)

    def step() -> list[Tensor]:
        backbone.zero_grad(set_to_none=True)
        out = backbone(image)[0]
        out.backward(direction)
        return [out.detach(), backbone.pos_embed.grad]
    return step


def _bfloat16(side: int, depth: int) -> Step:
    """As ``vitdet predict --half``: weights and residual branches in float32, products in bfloat16."""
    step = _inference(side, depth, reference=False)

    def half_step() -> Tensor:
        with torch.autocast('cpu', torch.bfloat16):
            return step()
    return half_step


def rows(quick: bool) -> Iterator[Row]:
    """Yield inference, and forward and backward pass; the memory includes weights and activations common to both."""
    side, depth, repeats = (512, 4, 3) if quick else (1024, 12, 5)
    # a pair of trainings takes 40 seconds, and their memory as long again
    for name, builder, pairs, goals in [('inference', _inference, repeats, dict(time_goal=1.6, memory_goal=6)),
                                        ('training', _training, 1, {})]:
        yield compare(f'ViT-B backbone, {side}^2, {depth} blocks, {name}', 'materialized',
                      partial(builder, side, depth, False), partial(builder, side, depth, True), tolerance=5e-3,
                      repeats=pairs, **goals)
    yield compare(f'ViT-B backbone, {side}^2, {depth} blocks, inference, bfloat16', 'the same in float32',
                  partial(_bfloat16, side, depth), partial(_inference, side, depth, False), tolerance=2e-2,
                  check=relative_error, time_goal=2.3, memory=False, repeats=repeats)
