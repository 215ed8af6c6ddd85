"""Backbones against timm's models of the same architecture, and transformers' ViTDet, with the same weights."""

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

import timm
import torch
from torch import Tensor, nn

from benchmarks.harness import Row, Step, compare, left_out
from vitdet_plugin.backbones.convnext import ConvNeXtBackbone
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.backbones.volo import VOLO

Pair = Callable[[int], tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]]


def vitdet(side: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return ViTDet-B and timm's encoder of SAM, without its neck: windows of 14, four global blocks."""
    ours = ViTDet('base', img_size=side, drop_path_rate=0.0)
    theirs = timm.create_model('samvit_base_patch16', img_size=side, num_classes=0)
    for name, parameter in ours.named_parameters():
        if 'rel_pos' in name:
            nn.init.normal_(parameter, std=0.02)
        elif name == 'pos_embed':
            nn.init.zeros_(parameter)
    state = ours.state_dict()
    state['pos_embed'] = nn.init.zeros_(theirs.pos_embed)  # ours has another grid
    _load(theirs, state)
    theirs.neck = nn.Identity()
    return lambda x: ours(x)[0], theirs.forward_features


def volo(side: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return VOLO-D1 and timm's, both without class attention."""
    ours = VOLO('d1', img_size=side).eval()
    theirs = timm.create_model('volo_d1_224', img_size=side, num_classes=0).eval()
    _load(theirs, ours.state_dict())
    return lambda x: ours(x)[0], lambda x: _volo_tokens(theirs, x)


def _volo_tokens(model: nn.Module, x: Tensor) -> Tensor:
    tokens = model.forward_tokens(model.patch_embed(x).permute(0, 2, 3, 1))  # (B, H * W, C)
    return tokens.unflatten(1, (x.shape[2] // 16, x.shape[3] // 16)).permute(0, 3, 1, 2)


def convnext(side: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return ConvNeXt-T and timm's."""
    ours = ConvNeXtBackbone('tiny', out_indices=(3,), out_norms=False, layer_scale_init_value=1.0).eval()
    theirs = timm.create_model('convnext_tiny', num_classes=0).eval()
    _load(theirs, ours.state_dict())
    return lambda x: ours(x)[0], lambda x: theirs.stages(theirs.stem(x))


def _load(model: nn.Module, state: dict[str, Tensor]) -> None:
    found = model.load_state_dict(state, strict=False)
    unused = ('neck', 'post_network', 'cls_token', 'head', 'aux_head', 'norm')
    missing = [name for name in found.missing_keys if not name.startswith(unused)]
    assert not missing and not found.unexpected_keys, (missing, found.unexpected_keys)


def _side(pair: Pair, which: int, side: int, dtype: torch.dtype | None) -> Step:
    torch.manual_seed(0)
    model = pair(side)[which]
    image = torch.randn(1, 3, side, side)

    def step() -> Tensor:
        with torch.no_grad(), torch.autocast('cpu', dtype, enabled=dtype is not None):
            return model(image).float()
    return step


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Return the norm of the difference / the norm of the reference; infinite for other shapes."""
    if ours.shape != reference.shape:
        return float('inf')
    return ((ours - reference).norm() / reference.norm()).item()


def rows(quick: bool) -> Iterator[Row | None]:
    """Yield inference of one image, in float32 and with autocast to bfloat16."""
    for name, pair, peer, sides, goal in (('ViT-B', vitdet, "timm's samvit_base_patch16", (1024,), (1.6, 1.8)),
                                          ('VOLO-D1', volo, "timm's volo_d1_224", (224, 640), (None, None)),
                                          ('ConvNeXt-T', convnext, "timm's convnext_tiny", (224, 640), (None, None))):
        for side in (224,) if quick else sides:
            for dtype, text, expected_ratio in ((None, '', goal[0]), (torch.bfloat16, ', bf16', goal[1])):
                yield compare(f'{name}, {side}^2, inference{text}', peer, partial(_side, pair, 0, side, dtype),
                              partial(_side, pair, 1, side, dtype), check=relative_error,
                              tolerance=2e-2 if dtype else 1e-4, memory=dtype is None and not quick,
                              time_goal=None if quick else expected_ratio)
    yield _vitdet_of_transformers(224 if quick else 512)


def _vitdet_of_transformers(side: int) -> Row | None:
    path, peer = f'ViT-B, {side}^2, inference, windows of 14', "transformers' VitDetModel"
    if importlib.util.find_spec('transformers') is None:
        return left_out(path, peer, 'transformers is not installed; python -m pip install transformers')
    sides = [partial(_against_transformers, which, side) for which in (0, 1)]
    return compare(path, peer, *sides, tolerance=float('inf'), memory=False, note='other weights: times only')


def _against_transformers(which: int, side: int) -> Step:
    torch.manual_seed(0)
    if which == 0:
        ours = ViTDet('base', img_size=side, drop_path_rate=0.0).eval()
        return _stepping(lambda x: ours(x)[0], side)
    from transformers import VitDetConfig, VitDetModel
    indices = [i for i in range(12) if i % 3 != 2]
    theirs = VitDetModel(VitDetConfig(image_size=side, window_size=14, window_block_indices=indices,
                                      use_relative_position_embeddings=True)).eval()
    return _stepping(lambda x: theirs(x).last_hidden_state, side)


def _stepping(model: Callable[[Tensor], Tensor], side: int) -> Step:
    image = torch.randn(1, 3, side, side)

    def step() -> Tensor:
        with torch.no_grad():
            return model(image)
    return step
