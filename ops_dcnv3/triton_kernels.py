"""DCNv3, Triton kernels.

A program computes a block of output pixels for one group. The sampling points are read once for all channels of the
group, whose numbers are next to each other in memory. Sums are float32.

Shapes: input (N, height, width, C), out and its gradient (N, rows, columns, C), offset (N, rows, columns, group *
TAPS * 2), mask (N, rows, columns, group * TAPS); C = group * CHANNELS; all contiguous. ``pixels``
is N * rows * columns.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vitdet_plugin.ops.bilinear.triton_kernels import sample, sample_gradients


@triton.jit
def _point(offset, mask, local, ok, tap, first_x, first_y, column, row, width, height, scale,
           KERNEL_H: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, MIDDLE: tl.constexpr):
    """Return the weight of a tap, the fractions and integers of its position, and whether it is inside: (BLOCK,).

    A position that is not a number is inside: its fractions make the result NaN.
    """
    cell = tap + (tap >= MIDDLE)
    offset_x = tl.load(offset + (local + tap) * 2, mask=ok, other=0.0).to(tl.float32)
    offset_y = tl.load(offset + (local + tap) * 2 + 1, mask=ok, other=0.0).to(tl.float32)
    weight = tl.load(mask + local + tap, mask=ok, other=0.0).to(tl.float32)
    x = first_x + column + (cell // KERNEL_H * DILATION_W + offset_x) * scale
    y = first_y + row + (cell % KERNEL_H * DILATION_H + offset_y) * scale
    outside = (x <= -1) | (x >= width) | (y <= -1) | (y >= height)
    left = tl.where(outside | (x != x), 0.0, tl.floor(x))
    upper = tl.where(outside | (y != y), 0.0, tl.floor(y))
    right, lower = tl.where(outside, 0.0, x - left), tl.where(outside, 0.0, y - upper)
    return weight, right, lower, left.to(tl.int32), upper.to(tl.int32), (outside == 0) & ok


@triton.jit
def forward_kernel(input, offset, mask, out, pixels, height, width, rows, columns, group, stride_h, stride_w, first_x,
                   first_y, scale, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr, TAPS: tl.constexpr,
                   KERNEL_H: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, MIDDLE: tl.constexpr,
                   BLOCK: tl.constexpr):
    """Compute out; the programs of all groups of a block of pixels are next to each other."""
    first, g = (tl.program_id(0) // group).to(tl.int64) * BLOCK, tl.program_id(0) % group
    step, channels = tl.arange(0, BLOCK), group * CHANNELS
    pixel = first + step
    ok = pixel < pixels
    start = pixel // columns // rows * height * width
    column, row = (pixel % columns * stride_w).to(tl.float32), (pixel // columns % rows * stride_h).to(tl.float32)
    channel = tl.arange(0, BLOCK_C)
    channel_ok = channel < CHANNELS
    points = (first * group + g) * TAPS
    offset += points * 2
    mask += points
    input += g * CHANNELS
    local = step * group * TAPS
    sums = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for tap in range(TAPS):
        weight, right, lower, x, y, inside = _point(offset, mask, local, ok, tap, first_x, first_y, column, row, width,
                                                    height, scale, KERNEL_H, DILATION_H, DILATION_W, MIDDLE)
        sums += sample(input, start, x, y, right, lower, weight, inside, width, height, channels, channel, channel_ok)
    tl.store(out + first * channels + g * CHANNELS + step[:, None] * channels + channel[None, :],
             sums.to(out.dtype.element_ty), mask=ok[:, None] & channel_ok[None, :])


@triton.jit
def backward_kernel(grad, input, offset, mask, grad_input, grad_offset, grad_mask, factor, pixels, height, width, rows,
                    columns, group, stride_h, stride_w, first_x, first_y, scale, CHANNELS: tl.constexpr,
                    BLOCK_C: tl.constexpr, TAPS: tl.constexpr, KERNEL_H: tl.constexpr, DILATION_H: tl.constexpr,
                    DILATION_W: tl.constexpr, MIDDLE: tl.constexpr, FIXED: tl.constexpr, BLOCK: tl.constexpr):
    """Compute grad_offset and grad_mask, and add to grad_input.

    grad_input is zero before; float32, or if FIXED 64-bit integers: the gradient times the number at ``factor``.
    """
    first, g = (tl.program_id(0) // group).to(tl.int64) * BLOCK, tl.program_id(0) % group
    step, channels = tl.arange(0, BLOCK), group * CHANNELS
    pixel = first + step
    ok = pixel < pixels
    start = pixel // columns // rows * height * width
    column, row = (pixel % columns * stride_w).to(tl.float32), (pixel // columns % rows * stride_h).to(tl.float32)
    channel = tl.arange(0, BLOCK_C)
    channel_ok = channel < CHANNELS
    points = (first * group + g) * TAPS
    offset += points * 2
    mask += points
    grad_offset += points * 2
    grad_mask += points
    input += g * CHANNELS
    grad_input += g * CHANNELS
    local = step * group * TAPS
    fixed = 1.0
    if FIXED:
        fixed = tl.load(factor)
    direction = tl.load(grad + first * channels + g * CHANNELS + step[:, None] * channels + channel[None, :],
                        mask=ok[:, None] & channel_ok[None, :], other=0.0).to(tl.float32)
    for tap in range(TAPS):
        weight, right, lower, x, y, inside = _point(offset, mask, local, ok, tap, first_x, first_y, column, row, width,
                                                    height, scale, KERNEL_H, DILATION_H, DILATION_W, MIDDLE)
        of_mask, of_x, of_y = sample_gradients(
            input, grad_input, start, x, y, right, lower, weight, inside, width, height, channels, channel, channel_ok,
            direction, fixed, FIXED)
        tl.store(grad_mask + local + tap, of_mask.to(grad_mask.dtype.element_ty), mask=ok)
        tl.store(grad_offset + (local + tap) * 2, (of_x * scale).to(grad_offset.dtype.element_ty), mask=ok)
        tl.store(grad_offset + (local + tap) * 2 + 1, (of_y * scale).to(grad_offset.dtype.element_ty), mask=ok)
