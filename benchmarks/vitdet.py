"""The ViT-B backbone of ViTDet end to end at 1024^2, against the same backbone with materialized attention."""

from collections.abc import Iterator
from functools import partial

import timm
import torch
from torch import Tensor

from benchmarks.harness import Row, Step, compare
from benchmarks.reference_attention import ReferenceAttention, relative_error
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.layers.pos_embed import resize_abs_pos


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


def _timm(side: int, depth: int, dtype: torch.dtype) -> Step:
    """SAM's image encoder of timm with the same weights, all of them in ``dtype``."""
    ours = _backbone(side, depth, reference=False)
    image = torch.randn(1, 3, side, side).to(dtype)
    model = timm.create_model('samvit_base_patch16', num_classes=0, depth=depth, img_size=side,
                              global_attn_indexes=[depth * quarter // 4 - 1 for quarter in (1, 2, 3, 4)]).eval()
    model.neck = torch.nn.Identity()
    weights = ours.state_dict()
    weights['pos_embed'] = resize_abs_pos(weights['pos_embed'], (side // 16, side // 16), has_cls_slot=True)
    model.load_state_dict(weights)
    model.to(dtype)

    def step() -> Tensor:
        with torch.no_grad():
            return model.forward_features(image)
    return step


def rows(quick: bool) -> Iterator[Row]:
    """Yield inference, and forward and backward pass; the memory includes weights and activations common to both."""
    side, depth, repeats = (512, 4, 3) if quick else (1024, 12, 5)
    for name, builder, goals in [('inference', _inference, dict(time_goal=1.6, memory_goal=6)),
                                 ('training', _training, {})]:
        yield compare(f'ViT-B backbone, {side}^2, {depth} blocks, {name}', 'materialized',
                      partial(builder, side, depth, False), partial(builder, side, depth, True), tolerance=5e-3,
                      repeats=repeats, **goals)
    for name, ours, form, reference, goal in [
        ('float32', partial(_inference, side, depth, False), "timm's SAM encoder, float32",
         partial(_timm, side, depth, torch.float32), 1.6),
        ('bfloat16', partial(_bfloat16, side, depth), "timm's SAM encoder, bfloat16",
         partial(_timm, side, depth, torch.bfloat16), 1.8),
        ('bfloat16', partial(_bfloat16, side, depth), 'the same in float32',
         partial(_inference, side, depth, False), 2.3),
    ]:
        yield compare(f'ViT-B backbone, {side}^2, {depth} blocks, inference, {name}', form, ours, reference,
                      tolerance=2e-2, check=relative_error, time_goal=goal, memory=False, repeats=repeats)
