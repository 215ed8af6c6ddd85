"""Fit the weights of a checkpoint to a model: shapes, input channels, depth, finite values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from vitdet_plugin.backbones.base import Backbone
from vitdet_plugin.errors import UserError

CHECK = 'check that the config describes this model'
# containers of the blocks and stages of backbones, those of mmdet included
_CONTAINER = re.compile(r'(?:^|(?<=\.))(blocks|levels|stages|layers|network(?:\.\d+)?)\.(\d+)(?=\.)')
FEW = 3  # weights of a backbone that a file may lack


def fit_weight(name: str, value: Tensor, own: Tensor, model: nn.Module, source: str) -> tuple[Tensor, str]:
    """Return a weight in the shape of the model's, and how it was changed (empty if it was not).

    Args:
        name: Name in the model.
        value: Weight of the file.
        own: Weight of the model.
        model: A backbone, or a detector or classifier with one.
        source: File name for messages.

    Raises:
        UserError: The shape cannot be changed, or the weight is not of floating point where the model's is.
    """
    if own.is_floating_point() and not value.is_floating_point():
        raise UserError(f'{source}: {name} is {str(value.dtype).removeprefix("torch.")}, the model requires floating '
                        'point; give weights that are not quantized')
    if value.shape == own.shape:
        return value, ''
    if value.numel() == own.numel() == 1:
        return value.reshape(own.shape), ''
    backbone = model if isinstance(model, Backbone) else getattr(model, 'backbone', None)
    inner = name if backbone is model else name.removeprefix('backbone.')
    fitted, how = None, ''
    if isinstance(backbone, Backbone) and (backbone is model or inner != name):
        fitted, how = value, ''
        if inner == backbone.stem_weight and value.ndim == own.ndim == 4 and value.shape[1] != own.shape[1]:
            fitted = fit_channels(value, own.shape[1])
            how = f': {describe_channels(value.shape[1], own.shape[1])}'
        if fitted.shape != own.shape:
            fitted = backbone.resize_weight(inner, fitted, own)
    if fitted is None or fitted.shape != own.shape:
        raise UserError(f'{source}: {name} is {tuple(value.shape)}, the model requires {tuple(own.shape)}; {CHECK}')
    return fitted.to(value.dtype), f'{tuple(value.shape)} to {tuple(own.shape)}{how}'


def fit_channels(value: Tensor, channels: int) -> Tensor:
    """Change the number of input channels of a convolution's weight, as timm does.

    One channel gets the sum over all channels. More are the given ones, repeated in order and scaled to the same sum on
    average.

    Args:
        value: (out, C, h, w).
        channels: Number of input channels of the result.

    Returns:
        (out, channels, h, w).
    """
    wide, given = value.float(), value.shape[1]
    if channels == 1:
        return wide.sum(1, keepdim=True).to(value.dtype)
    repeated = wide.repeat(1, -(-channels // given), 1, 1)[:, :channels]
    return (repeated * (given / channels)).to(value.dtype)


def describe_channels(given: int, channels: int) -> str:
    """Return what :func:`fit_channels` does, for reports."""
    if channels == 1:
        return f'the sum over {given} input channels'
    return f'{given} input channel{"s" * (given > 1)} repeated to {channels} and scaled by {given}/{channels}'


def find_depth_mismatch(found: Iterable[str], own: Iterable[str]) -> str | None:
    """Compare the numbers of blocks and stages that two lists of weight names have.

    Args:
        found: Names in the file, under this project's names.
        own: Names of the model.

    Returns:
        'has 2 blocks in backbone.blocks, the model has 4' for the first difference, or None. Kinds of containers that
        the file lacks altogether are not compared.
    """
    theirs, ours = _count_blocks(found), _count_blocks(own)
    kinds = {_kind(container) for container in theirs}
    for container in sorted(ours, key=lambda each: each.count('.')):
        inside = theirs.get(container, set())
        if _kind(container) in kinds and len(inside) != len(ours[container]):
            name = container.split('.')[-1]
            what = name if name in ('blocks', 'levels', 'stages', 'layers') else 'blocks'
            return f'has {len(inside)} {what} in {container}, the model has {len(ours[container])}'
    return None


def _kind(container: str) -> str:
    return re.sub(r'\.\d+', '.#', container)


def check_backbone(missing: Sequence[str], found: Iterable[str], model: nn.Module, source: str) -> None:
    """Raise a `UserError` if a file lacks more than a few weights of the backbone that it should have.

    Args:
        missing: Weights of the model that the file lacks, under the model's names.
        found: Weights of the model that the file has.
        model: A backbone, or a model with one.
        source: File and format for messages.
    """
    backbone = model if isinstance(model, Backbone) else getattr(model, 'backbone', None)
    if not isinstance(backbone, Backbone):
        return
    prefix = '' if backbone is model else 'backbone.'
    optional = (*backbone.optional_weights, '*.num_batches_tracked')
    lacking = [name for name in missing if name.startswith(prefix)
               and not any(fnmatchcase(name.removeprefix(prefix), pattern) for pattern in optional)]
    count = sum(name.startswith(prefix) for name in found)
    if count and len(lacking) > FEW:
        more = f' and {len(lacking) - 4} more' if len(lacking) > 4 else ''
        raise UserError(f'{source} lacks {len(lacking)} of {count + len(lacking)} weights of the backbone '
                        f'({", ".join(lacking[:4])}{more}); {CHECK}')


def check_finite(state: Mapping[str, Tensor], parameters: Collection[str], source: str) -> None:
    """Check for parameters that are no floating-point numbers, for NaN, and in parameters for infinite values.

    Buffers such as attention masks may have infinite values.

    Raises:
        UserError: Names the number of weights and the first one.
    """
    if kinds := [name for name, value in state.items() if name in parameters and not value.is_floating_point()]:
        kind = str(state[kinds[0]].dtype).removeprefix('torch.')
        raise UserError(f'{source}: {len(kinds)} of {len(state)} weights are stored as {kind} (the first: {kinds[0]}), '
                        'not as floating-point numbers; give the file from before it was quantized')
    wrong = [name for name, value in state.items() if value.is_floating_point() and not bool(
        torch.isfinite(value).all() if name in parameters else ~torch.isnan(value).any())]
    if wrong:
        raise UserError(f'{source}: {len(wrong)} of {len(state)} weights are NaN or infinite (the first: {wrong[0]}); '
                        'its training diverged, or the file is damaged: give an earlier checkpoint')


def _count_blocks(names: Iterable[str]) -> dict[str, set[str]]:
    """Return the indexes in each container of blocks of a backbone."""
    counts: dict[str, set[str]] = {}
    for name in names:
        for match in _CONTAINER.finditer(name):
            counts.setdefault(name[:match.end(1)], set()).add(match[2])
    return counts

