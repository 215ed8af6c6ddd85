"""Deformable convolution, versions 1 and 2, with the signatures of mmcv's extension, computed by torchvision.

Both libraries lay out offsets as (y, x) pairs per kernel cell and group, so tensors pass through as they are. Outputs
and gradients are written into the tensors that mmcv allocated; its scratch buffers stay unused.

Version 2 in mmcv does not check the size of offset and mask maps: it reads the memory of each image's maps as maps of
the output's size, and ignores the rest. mmdet's DyHead passes the maps of one pyramid level to the smaller next level,
and published weights were trained with these values, so they are read the same way here. Smaller maps, which mmcv reads
beyond their end, and maps of any other size in version 1, are errors.
"""

import torch
import torch.nn.functional as F
import torchvision  # noqa: F401 (loads torch.ops.torchvision)
from torch import Tensor

from vitdet_plugin.compat.precision import widen


def _forward(input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None, bias: Tensor | None,
             geometry: tuple[int, ...]) -> Tensor:
    return torch.ops.torchvision.deform_conv2d(*_operands(input, weight, offset, mask, bias), *geometry,
                                               mask is not None)


def _backward(grad: Tensor, input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None,
              bias: Tensor | None, geometry: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Gradients of input, weight, offset, mask, bias."""
    operands = _operands(input, weight, offset, mask, bias)
    return torch.ops.torchvision._deform_conv2d_backward(grad.detach().to(operands[0].dtype), *operands, *geometry,
                                                         mask is not None)


def _operands(input: Tensor, weight: Tensor, offset: Tensor, mask: Tensor | None,
              bias: Tensor | None) -> tuple[Tensor, ...]:
    if mask is None:
        mask = input.new_zeros(input.shape[0], 1)  # torchvision requires a tensor even where it is unused
    if bias is None:
        bias = input.new_zeros(weight.shape[0])
    return widen(*(t.detach() for t in (input, weight, offset, mask, bias)))


def _read_as(maps: Tensor, height: int, width: int) -> Tensor:
    """Return the first elements of each image in ``maps`` (N, C, H, W) as (N, C, height, width)."""
    count, channels = maps.shape[:2]
    if tuple(maps.shape[2:]) == (height, width) or maps.shape[2:].numel() < height * width:
        return maps  # torchvision refuses smaller ones
    return maps.reshape(count, -1)[:, :channels * height * width].view(count, channels, height, width)


def deform_conv_forward(input, weight, offset, output, columns, ones, kW, kH, dW, dH, padW, padH, dilationW, dilationH,
                        group, deformable_group, im2col_step) -> None:
    """Fill ``output`` (N, C_out, H_out, W_out); ``offset`` is (N, 2 * deformable_group * kH * kW, H_out, W_out)."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    output.copy_(_forward(input, weight, offset, None, None, geometry))


def deform_conv_backward_input(input, offset, grad_output, grad_input, grad_offset, weight, columns, kW, kH, dW, dH,
                               padW, padH, dilationW, dilationH, group, deformable_group, im2col_step) -> None:
    """Fill ``grad_input`` and ``grad_offset``."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    of_input, _, of_offset, _, _ = _backward(grad_output, input, weight, offset, None, None, geometry)
    grad_input.copy_(of_input)
    grad_offset.copy_(of_offset)


def deform_conv_backward_parameters(input, offset, grad_output, grad_weight, columns, ones, kW, kH, dW, dH, padW, padH,
                                    dilationW, dilationH, group, deformable_group, scale, im2col_step) -> None:
    """Add ``scale`` times the weight's gradient to ``grad_weight`` (C_out, C_in / group, kH, kW)."""
    geometry = (dH, dW, padH, padW, dilationH, dilationW, group, deformable_group)
    weight = torch.zeros_like(grad_weight)  # the gradient of the weight does not depend on its value
    _, of_weight, _, _, _ = _backward(grad_output, input, weight, offset, None, None, geometry)
    grad_weight.add_(of_weight.to(grad_weight.dtype), alpha=scale)


def modulated_deform_conv_forward(input, weight, bias, ones, offset, mask, output, columns, kernel_h, kernel_w,
                                  stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group,
                                  with_bias) -> None:
    """Fill ``output``; ``mask`` is (N, deformable_group * kernel_h * kernel_w, H_out, W_out) or larger."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    offset, mask = (_read_as(maps, *output.shape[2:]) for maps in (offset, mask))
    output.copy_(_forward(input, weight, offset, mask, bias if with_bias else None, geometry))


def modulated_deform_conv_backward(input, weight, bias, ones, offset, mask, columns, grad_input, grad_weight,
                                   grad_bias, grad_offset, grad_mask, grad_output, kernel_h, kernel_w, stride_h,
                                   stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group,
                                   with_bias) -> None:
    """Fill the five gradients (``grad_bias`` only with a bias); those of elements that are not read are 0."""
    geometry = (stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, group, deformable_group)
    offset, mask = (_read_as(maps, *grad_output.shape[2:]) for maps in (offset, mask))
    grads = _backward(grad_output, input, weight, offset, mask, bias if with_bias else None, geometry)
    for mine, value in zip((grad_input, grad_weight), grads[:2]):
        mine.copy_(value)
    for mine, value in zip((grad_offset, grad_mask), grads[2:4]):
        if mine.shape == value.shape:
            mine.copy_(value)
        else:
            count, used = len(value), value[0].numel()
            mine.copy_(F.pad(value.reshape(count, used), (0, mine[0].numel() - used)).view(mine.shape))
    if with_bias:
        grad_bias.copy_(grads[-1])
