"""The operator as users call it: arguments checked, then the fastest backend that fits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ops_dcnv3 import backends, native
from ops_dcnv3.geometry import Geometry
from ops_dcnv3.reference import dcnv3_pytorch


def dcnv3(input: Tensor, offset: Tensor, mask: Tensor, kernel_h: int, kernel_w: int, stride_h: int, stride_w: int,
          pad_h: int, pad_w: int, dilation_h: int, dilation_w: int, group: int, group_channels: int,
          offset_scale: float, im2col_step: int = 256, remove_center: bool = False, *,
          backend: str | None = None) -> Tensor:
    """Deformable convolution v3 (arXiv 2211.05778, section 3.1): modulated bilinear samples, summed over the taps.

    Args:
        input: (N, H, W, C), C = group * group_channels; float32, float64, float16 or bfloat16.
        offset: (N, Ho, Wo, group * P * 2) in units of ``offset_scale`` pixels, (x, y) per tap; P taps, the kernel's
            columns being the outer loop. Ho = (H + 2 pad_h - (dilation_h (kernel_h - 1) + 1)) // stride_h + 1.
        mask: (N, Ho, Wo, group * P); used as it is, the module has applied softmax over P.
        offset_scale: stretches the dilation grid and the offsets.
        im2col_step: accepted for compatibility; batches of any size work.
        remove_center: leave out the middle tap; P = kernel_h * kernel_w - 1.
        backend: ``'cpu'``, ``'cuda'`` or ``'pytorch'``; None takes the compiled one for the tensors' device where
            there is one, else PyTorch.

    Returns:
        (N, Ho, Wo, C) of the input's type. Samples outside the input are zero.

    Raises:
        ValueError: shapes, devices or geometry do not fit. TypeError: types do not. RuntimeError: the backend asked
            for is not there; the message says why and what to do.
    """
    geometry = Geometry(int(kernel_h), int(kernel_w), int(stride_h), int(stride_w), int(pad_h), int(pad_w),
                        int(dilation_h), int(dilation_w), int(group), int(group_channels), float(offset_scale),
                        bool(remove_center))
    geometry.check()
    check_tensors(input, offset, mask, geometry)
    if backends.choose(backend, input.device.type) == 'pytorch':
        return dcnv3_pytorch(*backends.same_type(input, offset, mask), geometry)
    return native.run(input, offset, mask, geometry)


def tap_softmax(logits: Tensor, taps: int, *, backend: str | None = None) -> Tensor:
    """Softmax over each run of ``taps`` numbers in the last dimension, which makes ``mask`` of what predicts it.

    The compiled form of the CPU is several times as fast as PyTorch's, which is made for longer runs. Computed in
    float32 at least; the result has the type of ``logits``.
    """
    if backends.choose(backend, logits.device.type) == 'cpu':
        return torch.ops.vitdet_plugin.tap_softmax(logits, taps)
    return F.softmax(logits.unflatten(-1, (-1, taps)), -1).flatten(-2).to(logits.dtype)


def check_tensors(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> None:
    """Raises ValueError or TypeError naming the tensor that does not fit."""
    tensors = dict(input=input, offset=offset, mask=mask)
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f'dcnv3: {name} is a {type(tensor).__name__}, not a tensor')
        if not tensor.is_floating_point():
            raise TypeError(f'dcnv3: {name} is {tensor.dtype}; float32, float64, float16 or bfloat16 are supported')
        if tensor.ndim != 4:
            raise ValueError(f'dcnv3: {name} has shape {tuple(tensor.shape)}; four dimensions, channels last, are '
                             'needed')
        if tensor.device != input.device:
            raise ValueError(f'dcnv3: {name} is on {tensor.device}, but input is on {input.device}')
    if not backends.types_fit(input, offset, mask):
        raise TypeError(f'dcnv3: input is {input.dtype}, offset {offset.dtype}, mask {mask.dtype}; cast them to one '
                        'type, or use autocast')
    batch, height, width, channels = input.shape
    if channels != geometry.group * geometry.group_channels:
        raise ValueError(f'dcnv3: input has {channels} channels (last dimension), but group * group_channels is '
                         f'{geometry.group} * {geometry.group_channels}')
    out_h, out_w = geometry.out_size(height, width)
    if height < 1 or width < 1 or out_h < 1 or out_w < 1:
        raise ValueError(f'dcnv3: an input of {height}x{width} gives an output of {out_h}x{out_w}; it must be larger, '
                         'or the kernel smaller')
    points = geometry.group * geometry.num_taps
    for name, last in (('offset', points * 2), ('mask', points)):
        expected = (batch, out_h, out_w, last)
        if tuple(tensors[name].shape) != expected:
            raise ValueError(f'dcnv3: {name} has shape {tuple(tensors[name].shape)}, but input and kernel ask for '
                             f'{expected} = (N, Ho, Wo, group * taps{" * 2" if name == "offset" else ""})')
