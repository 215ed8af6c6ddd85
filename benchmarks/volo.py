"""VOLO-D1 at 224 and 640 pixels: outlook attention and the backbone against the official implementations."""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from timm.layers import Mlp
from torch import Tensor

from benchmarks.harness import Row, Step, compare
from vitdet_plugin.backbones.volo import VOLO, Attention, PatchEmbed
from vitdet_plugin.layers import mlp
from vitdet_plugin.layers.outlook import OutlookAttention
from vitdet_plugin.ops.outlook_attention import outlook_attention

_DIM, _HEADS, _POSITIONS = 192, 6, 9
_SCALE = (_DIM // _HEADS) ** -0.5


def reference_attention(v: Tensor, a: Tensor) -> Tensor:
    """The paper's algorithm 1 for windows of 3 x 3 at stride 2, as the official code computes it."""
    batch, height, width, _ = v.shape
    windows = a.shape[1] * a.shape[2]
    unfolded = F.unfold(v.permute(0, 3, 1, 2), 3, padding=1, stride=2)
    unfolded = unfolded.reshape(batch, _HEADS, -1, _POSITIONS, windows).permute(0, 1, 4, 3, 2)
    scores = a.reshape(batch, windows, _HEADS, _POSITIONS, _POSITIONS).permute(0, 2, 1, 3, 4) * _SCALE
    out = (scores.softmax(-1) @ unfolded).permute(0, 1, 4, 3, 2).reshape(batch, _DIM * _POSITIONS, windows)
    return F.fold(out, (height, width), 3, padding=1, stride=2).permute(0, 2, 3, 1)


class ReferenceOutlook(OutlookAttention):
    """The layer, with its projections."""

    def forward(self, x: Tensor) -> Tensor:
        cells = F.avg_pool2d(x.permute(0, 3, 1, 2), 2, 2, ceil_mode=True).permute(0, 2, 3, 1)
        return self.proj(reference_attention(self.v(x), self.attn(cells)))


class ReferenceSelfAttention(Attention):
    """Materializes the scores."""

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x.flatten(1, 2)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
        return self.proj((weights @ v).transpose(1, 2).reshape(x.shape))


class ReferencePatchEmbed(PatchEmbed):
    """Convolutions in PyTorch's default order of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.conv(x)).permute(0, 2, 3, 1)


_OFFICIAL = {OutlookAttention: ReferenceOutlook, Attention: ReferenceSelfAttention, PatchEmbed: ReferencePatchEmbed,
             mlp.Mlp: Mlp}


def _core(reference: bool, batch: int, side: int, training: bool) -> Step:
    torch.manual_seed(0)
    v = torch.randn(batch, side, side, _DIM, requires_grad=training)
    a = torch.randn(batch, side // 2, side // 2, _HEADS * _POSITIONS**2, requires_grad=training)
    direction = torch.randn(batch, side, side, _DIM) if training else None

    def step() -> list[Tensor]:
        v.grad = a.grad = None
        out = reference_attention(v, a) if reference else outlook_attention(v, a, _HEADS, scale=_SCALE)
        if not training:
            return [out]
        out.backward(direction)
        return [out.detach(), v.grad, a.grad]
    return step


def _backbone(reference: bool, side: int, training: bool) -> Step:
    torch.manual_seed(0)
    model = VOLO('d1').train(training)
    for module in model.modules():
        if reference and type(module) in _OFFICIAL:
            module.__class__ = _OFFICIAL[type(module)]  # the same parameters
    return _step(lambda x: model(x)[0], model.network[0][0].attn.attn.weight, torch.randn(1, 3, side, side), training)


def _step(function, weight: Tensor, x: Tensor, training: bool) -> Step:
    def step() -> list[Tensor]:
        if not training:
            with torch.no_grad():
                return [function(x)]
        x.grad = weight.grad = None
        out = function(x)
        out.square().mean().backward()
        return [out.detach(), weight.grad]
    return step


def rows(quick: bool) -> Iterator[Row]:
    """Yield the attention and the backbone; training is forward and backward."""
    repeats = 3 if quick else 7
    for pixels, batch in [(224, 1)] if quick else [(224, 8), (640, 1)]:
        side = pixels // 8
        where = f'{side}x{side}x{_DIM}, batch {batch}'
        for name, training, goals in [('inference', False, dict(time_goal=2, memory_goal=3)), ('training', True, {})]:
            yield compare(f'outlook attention {where}, {name}', 'unfold, softmax, fold',
                          partial(_core, False, batch, side, training), partial(_core, True, batch, side, training),
                          tolerance=1e-4, repeats=repeats, **goals)
        for name, training in [('inference', False), ('training', True)]:
            if training and pixels > 224:
                continue  # a minute for a row like that at 224
            yield compare(f'VOLO-D1 backbone, {pixels}^2, {name}', 'official form of all layers',
                          partial(_backbone, False, pixels, training), partial(_backbone, True, pixels, training),
                          tolerance=1e-3, repeats=10 if pixels < 500 else 5)
