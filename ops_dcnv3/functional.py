"""The operator with checked arguments, on the fastest backend that can serve the call."""

from __future__ import annotations

import torch
from torch import Tensor

from ops_dcnv3 import native, reference, triton
from ops_dcnv3.geometry import Geometry
from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Operator

OPERATOR = Operator('dcnv3', [native.CPU, triton.BACKEND, native.CUDA, reference.BACKEND])
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def dcnv3(input: Tensor, offset: Tensor, mask: Tensor, kernel_h: int, kernel_w: int, stride_h: int, stride_w: int,
          pad_h: int, pad_w: int, dilation_h: int, dilation_w: int, group: int, group_channels: int,
          offset_scale: float, im2col_step: int = 256, remove_center: bool = False, *,
          backend: str | None = None) -> Tensor:
    """Deformable convolution v3 (arXiv 2211.05778, section 3.1): modulated bilinear samples, summed over the taps.

    Args:
        input: (N, H, W, C), C = group * group_channels; float32, float64, float16 or bfloat16.
        offset: (N, Ho, Wo, group * P * 2) in units of ``offset_scale`` pixels, (x, y) per tap; P taps, the kernel's
            columns being the outer loop. Ho = (H + 2 pad_h - (dilation_h (kernel_h - 1) + 1)) // stride_h + 1.
        mask: (N, Ho, Wo, group * P); the module applies a softmax over P first.
        kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w: parameters of the convolution.
        group: number of groups that share offsets and mask.
        group_channels: channels of each group.
        offset_scale: factor of the dilation grid and the offsets.
        im2col_step: accepted for compatibility; batches of any size work.
        remove_center: leave out the center tap; P = kernel_h * kernel_w - 1.
        backend: ``'cpu'``, ``'triton'``, ``'cuda'`` or ``'pytorch'``; None or 'auto' for the first of them that can
            serve the tensors.

    Returns:
        (N, Ho, Wo, C) of the input's type. Samples outside the input are zero.

    Raises:
        ValueError: the shapes, devices or sizes do not match.
        TypeError: the dtypes do not match or are not supported.
        BackendError: ``backend`` is unknown or cannot serve this call.
    """
    geometry = Geometry(int(kernel_h), int(kernel_w), int(stride_h), int(stride_w), int(pad_h), int(pad_w),
                        int(dilation_h), int(dilation_w), int(group), int(group_channels), float(offset_scale),
                        bool(remove_center))
    geometry.check()
    if not torch.jit.is_tracing():  # sizes are tensors, which a trace would turn into constants
        check_tensors(input, offset, mask, geometry)
    case = case_of(input, group_channels=group_channels)
    out: Tensor = OPERATOR.choose(case, backend).run(input, offset, mask, geometry)
    return out


def check_tensors(input: Tensor, offset: Tensor, mask: Tensor, geometry: Geometry) -> None:
    """Raise ValueError or TypeError naming the tensor that does not match."""
    tensors = dict(input=input, offset=offset, mask=mask)
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f'dcnv3: {name} is a {type(tensor).__name__}, not a tensor')
        if not tensor.is_floating_point():
            raise TypeError(f'dcnv3: {name} is {tensor.dtype}; float32, float64, float16 or bfloat16 are supported')
        if tensor.ndim != 4:
            raise ValueError(f'dcnv3: {name} has shape {tuple(tensor.shape)}; expected four dimensions, channels '
                             'last')
        if tensor.device != input.device:
            raise ValueError(f'dcnv3: {name} is on {tensor.device}, but input is on {input.device}')
    if not _dtypes_match(input, offset, mask):
        raise TypeError(f'dcnv3: input is {input.dtype}, offset {offset.dtype}, mask {mask.dtype}; cast them to one '
                        'dtype, or use autocast')
    batch, height, width, channels = input.shape
    if channels != geometry.group * geometry.group_channels:
        raise ValueError(f'dcnv3: input has {channels} channels (last dimension), but group * group_channels is '
                         f'{geometry.group} * {geometry.group_channels}')
    out_h, out_w = geometry.out_size(height, width)
    if height < 1 or width < 1 or out_h < 1 or out_w < 1:
        raise ValueError(f'dcnv3: an input of {height}x{width} gives an output of {out_h}x{out_w}; use a larger '
                         'input or a smaller kernel')
    points = geometry.group * geometry.num_taps
    for name, last in (('offset', points * 2), ('mask', points)):
        expected = (batch, out_h, out_w, last)
        if tuple(tensors[name].shape) != expected:
            raise ValueError(f'dcnv3: {name} has shape {tuple(tensors[name].shape)}, but input and kernel require '
                             f'{expected} = (N, Ho, Wo, group * taps{" * 2" if name == "offset" else ""})')


def _dtypes_match(*tensors: Tensor) -> bool:
    """Whether all dtypes are supported and the same; under autocast they may differ."""
    if any(tensor.dtype not in _DTYPES for tensor in tensors):
        return False
    return len({tensor.dtype for tensor in tensors}) == 1 or torch.is_autocast_enabled(tensors[0].device.type)
