"""Multi-scale deformable attention, Triton kernels.

A program computes a block of queries for one head. A location is read once for all channels of the head, whose numbers
are next to each other in memory. Sums are float32.

Shapes: value (N, S, heads, CHANNELS), out and its gradient (N, Q, heads * CHANNELS), locations (N, Q, heads, LEVELS,
POINTS, 2), weights (N, Q, heads, LEVELS, POINTS), all contiguous; sizes (LEVELS, 3): height, width and first pixel of
each level. ``rows`` is N * Q and ``pixels`` is S.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vitdet_plugin.ops.bilinear.triton_kernels import sample, sample_gradients


@triton.jit
def _level(sizes, level):
    """Return height, width and first pixel of a level."""
    return (tl.load(sizes + level * 3).to(tl.int32), tl.load(sizes + level * 3 + 1).to(tl.int32),
            tl.load(sizes + level * 3 + 2))


@triton.jit
def _point(locations, weights, local, ok, width, height):
    """Return the weight of a point, the fractions and integers of its position, and whether it is inside: (BLOCK,).

    The fractions of a position that is not finite are NaN. It is not inside, so no gradient of a pixel depends on it.
    """
    weight = tl.load(weights + local, mask=ok, other=0.0).to(tl.float32)
    x = tl.load(locations + local * 2, mask=ok, other=0.0).to(tl.float32) * width - 0.5
    y = tl.load(locations + local * 2 + 1, mask=ok, other=0.0).to(tl.float32) * height - 0.5
    inside = (x >= -1) & (x < width) & (y >= -1) & (y < height)
    left, upper = tl.where(inside, tl.floor(x), 0.0), tl.where(inside, tl.floor(y), 0.0)
    right, lower = tl.where(inside, x - left, 0.0) + (x - x), tl.where(inside, y - upper, 0.0) + (y - y)
    return weight, right, lower, left.to(tl.int32), upper.to(tl.int32), inside & ok


@triton.jit
def forward_kernel(value, sizes, locations, weights, out, rows, queries, pixels, heads, CHANNELS: tl.constexpr,
                   BLOCK_C: tl.constexpr, LEVELS: tl.constexpr, POINTS: tl.constexpr, BLOCK: tl.constexpr):
    """Compute out; the programs of all heads of a block of queries are next to each other."""
    first, head = (tl.program_id(0) // heads).to(tl.int64) * BLOCK, tl.program_id(0) % heads
    step, channels = tl.arange(0, BLOCK), heads * CHANNELS
    ok = first + step < rows
    image = (first + step) // queries * pixels
    channel = tl.arange(0, BLOCK_C)
    channel_ok = channel < CHANNELS
    locations += (first * heads + head) * LEVELS * POINTS * 2
    weights += (first * heads + head) * LEVELS * POINTS
    value += head * CHANNELS
    local = step * heads * LEVELS * POINTS
    sums = tl.zeros([BLOCK, BLOCK_C], tl.float32)
    for level in range(LEVELS):
        height, width, begin = _level(sizes, level)
        start = image + begin
        for point in range(POINTS):
            weight, right, lower, x, y, inside = _point(locations, weights, local + level * POINTS + point, ok, width,
                                                        height)
            sums += sample(value, start, x, y, right, lower, weight, inside, width, height, channels, channel,
                           channel_ok)
    tl.store(out + first * channels + head * CHANNELS + step[:, None] * channels + channel[None, :],
             sums.to(out.dtype.element_ty), mask=ok[:, None] & channel_ok[None, :])


@triton.jit
def backward_kernel(grad, value, sizes, locations, weights, grad_value, grad_locations, grad_weights, factor, rows,
                    queries, pixels, heads, CHANNELS: tl.constexpr, BLOCK_C: tl.constexpr, LEVELS: tl.constexpr,
                    POINTS: tl.constexpr, FIXED: tl.constexpr, BLOCK: tl.constexpr):
    """Compute grad_locations and grad_weights, and add to grad_value.

    grad_value is zero before; float32, or if FIXED 64-bit integers: the gradient times the number at ``factor``.
    """
    first, head = (tl.program_id(0) // heads).to(tl.int64) * BLOCK, tl.program_id(0) % heads
    step, channels = tl.arange(0, BLOCK), heads * CHANNELS
    ok = first + step < rows
    image = (first + step) // queries * pixels
    channel = tl.arange(0, BLOCK_C)
    channel_ok = channel < CHANNELS
    points = (first * heads + head) * LEVELS * POINTS
    locations += points * 2
    weights += points
    grad_locations += points * 2
    grad_weights += points
    value += head * CHANNELS
    grad_value += head * CHANNELS
    fixed = 1.0
    if FIXED:
        fixed = tl.load(factor)
    direction = tl.load(grad + first * channels + head * CHANNELS + step[:, None] * channels + channel[None, :],
                        mask=ok[:, None] & channel_ok[None, :], other=0.0).to(tl.float32)
    for level in range(LEVELS):
        height, width, begin = _level(sizes, level)
        start = image + begin
        for point in range(POINTS):
            local = step * heads * LEVELS * POINTS + level * POINTS + point
            weight, right, lower, x, y, inside = _point(locations, weights, local, ok, width, height)
            of_weight, of_x, of_y = sample_gradients(
                value, grad_value, start, x, y, right, lower, weight, inside, width, height, channels, channel,
                channel_ok, direction, fixed, FIXED)
            tl.store(grad_weights + local, of_weight.to(grad_weights.dtype.element_ty), mask=ok)
            tl.store(grad_locations + local * 2, (of_x * width).to(grad_locations.dtype.element_ty), mask=ok)
            tl.store(grad_locations + local * 2 + 1, (of_y * height).to(grad_locations.dtype.element_ty), mask=ok)
