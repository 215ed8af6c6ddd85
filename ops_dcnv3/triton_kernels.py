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


@triton.jit
def _point(offset, mask, local, ok, tap, first_x, first_y, column, row, width, height, scale,
           KERNEL_H: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr, MIDDLE: tl.constexpr):
    """Return the weight of a tap, the fractions and integers of its position, and whether it is outside: (BLOCK,).

    A position that is not a number is not outside: its fractions make the result NaN.
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
    return weight, right, lower, left.to(tl.int32), upper.to(tl.int32), outside | (ok == 0)


@triton.jit
def _corner(image, x, y, outside, width, height, channels):
    """Return the offset of a pixel in the input, and whether it exists: (BLOCK,)."""
    exists = (outside == 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return ((image * height + y) * width + x) * channels, exists


@triton.jit
def _load_corner(input, image, x, y, outside, width, height, channels, channel, channel_ok):
    """Return the values of a pixel, (BLOCK, BLOCK_C), zero outside, with its offset and whether it exists."""
    at, exists = _corner(image, x, y, outside, width, height, channels)
    value = tl.load(input + at[:, None] + channel[None, :], mask=exists[:, None] & channel_ok[None, :], other=0.0)
    return value.to(tl.float32), at, exists


@triton.jit
def _sampled(input, offset, mask, local, ok, tap, first_x, first_y, column, row, image, width, height, channels, scale,
             channel, channel_ok, KERNEL_H: tl.constexpr, DILATION_H: tl.constexpr, DILATION_W: tl.constexpr,
             MIDDLE: tl.constexpr):
    """Return the weighted bilinear samples of one tap, (BLOCK, BLOCK_C)."""
    weight, right, lower, x, y, outside = _point(offset, mask, local, ok, tap, first_x, first_y, column, row, width,
                                                 height, scale, KERNEL_H, DILATION_H, DILATION_W, MIDDLE)
    a, _, _ = _load_corner(input, image, x, y, outside, width, height, channels, channel, channel_ok)
    b, _, _ = _load_corner(input, image, x + 1, y, outside, width, height, channels, channel, channel_ok)
    c, _, _ = _load_corner(input, image, x, y + 1, outside, width, height, channels, channel, channel_ok)
    d, _, _ = _load_corner(input, image, x + 1, y + 1, outside, width, height, channels, channel, channel_ok)
    upper, bottom = weight * (1 - lower), weight * lower
    return ((upper * (1 - right))[:, None] * a + (upper * right)[:, None] * b + (bottom * (1 - right))[:, None] * c
            + (bottom * right)[:, None] * d)


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
    image = pixel // columns // rows
    column, row = (pixel % columns * stride_w).to(tl.float32), (pixel // columns % rows * stride_h).to(tl.float32)
    channel = tl.arange(0, BLOCK_C)
    channel_ok = channel < CHANNELS
    start = (first * group + g) * TAPS
    offset += start * 2
    mask += start
    input += g * CHANNELS
    local = step * group * TAPS
    sums = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for tap in range(TAPS):
        sums += _sampled(input, offset, mask, local, ok, tap, first_x, first_y, column, row, image, width, height,
                         channels, scale, channel, channel_ok, KERNEL_H, DILATION_H, DILATION_W, MIDDLE)
    tl.store(out + first * channels + g * CHANNELS + step[:, None] * channels + channel[None, :],
             sums.to(out.dtype.element_ty), mask=ok[:, None] & channel_ok[None, :])


@triton.jit
def _add(grad_input, at, exists, channel, channel_ok, term, factor, FIXED: tl.constexpr):
    """Add a term (BLOCK, BLOCK_C) to the gradient of a pixel; if FIXED as integers, whose order is irrelevant."""
    pointers = grad_input + at[:, None] + channel[None, :]
    mask = exists[:, None] & channel_ok[None, :]
    if FIXED:
        tl.atomic_add(pointers, (term * factor).to(tl.int64), mask=mask, sem='relaxed')
    else:
        tl.atomic_add(pointers, term, mask=mask, sem='relaxed')


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
    image = pixel // columns // rows
    column, row = (pixel % columns * stride_w).to(tl.float32), (pixel // columns % rows * stride_h).to(tl.float32)
    channel = tl.arange(0, BLOCK_C)
    channel_ok = channel < CHANNELS
    start = (first * group + g) * TAPS
    offset += start * 2
    mask += start
    grad_offset += start * 2
    grad_mask += start
    input += g * CHANNELS
    grad_input += g * CHANNELS
    local = step * group * TAPS
    fixed = 1.0
    if FIXED:
        fixed = tl.load(factor)
    direction = tl.load(grad + first * channels + g * CHANNELS + step[:, None] * channels + channel[None, :],
                        mask=ok[:, None] & channel_ok[None, :], other=0.0).to(tl.float32)
    for tap in range(TAPS):
        weight, right, lower, x, y, outside = _point(offset, mask, local, ok, tap, first_x, first_y, column, row, width,
                                                     height, scale, KERNEL_H, DILATION_H, DILATION_W, MIDDLE)
        value, at, exists = _load_corner(input, image, x, y, outside, width, height, channels, channel, channel_ok)
        of_a = tl.sum(value * direction, 1)
        _add(grad_input, at, exists, channel, channel_ok, (weight * (1 - lower) * (1 - right))[:, None] * direction,
             fixed, FIXED)
        value, at, exists = _load_corner(input, image, x + 1, y, outside, width, height, channels, channel, channel_ok)
        of_b = tl.sum(value * direction, 1)
        _add(grad_input, at, exists, channel, channel_ok, (weight * (1 - lower) * right)[:, None] * direction, fixed,
             FIXED)
        value, at, exists = _load_corner(input, image, x, y + 1, outside, width, height, channels, channel, channel_ok)
        of_c = tl.sum(value * direction, 1)
        _add(grad_input, at, exists, channel, channel_ok, (weight * lower * (1 - right))[:, None] * direction, fixed,
             FIXED)
        value, at, exists = _load_corner(input, image, x + 1, y + 1, outside, width, height, channels, channel,
                                         channel_ok)
        of_d = tl.sum(value * direction, 1)
        _add(grad_input, at, exists, channel, channel_ok, (weight * lower * right)[:, None] * direction, fixed, FIXED)
        of_mask = (1 - lower) * ((1 - right) * of_a + right * of_b) + lower * ((1 - right) * of_c + right * of_d)
        of_x = ((1 - lower) * (of_b - of_a) + lower * (of_d - of_c)) * weight * scale
        of_y = ((1 - right) * (of_c - of_a) + right * (of_d - of_b)) * weight * scale
        tl.store(grad_mask + local + tap, of_mask.to(grad_mask.dtype.element_ty), mask=ok)
        tl.store(grad_offset + (local + tap) * 2, of_x.to(grad_offset.dtype.element_ty), mask=ok)
        tl.store(grad_offset + (local + tap) * 2 + 1, of_y.to(grad_offset.dtype.element_ty), mask=ok)
