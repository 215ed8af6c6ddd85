"""Bilinear samples of channels-last maps and their derivatives, functions for Triton kernels.

A program samples at a block of points, (BLOCK,): ``start`` is the first pixel of the map of each point, x and y are the
integers and right and lower the fractions of its position, ``weight`` is its factor, ``inside`` is whether it counts.
``channels`` is the distance of two pixels, in elements; ``channel`` (BLOCK_C,) is that of a column. Sums are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load_corner(value, start, x, y, inside, width, height, channels, channel, channel_ok):
    """Return the values of a pixel, (BLOCK, BLOCK_C), zero outside, with its offset and whether it exists: (BLOCK,)."""
    at = (start + y * width + x) * channels
    exists = inside & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    found = tl.load(value + at[:, None] + channel[None, :], mask=exists[:, None] & channel_ok[None, :], other=0.0)
    return found.to(tl.float32), at, exists


@triton.jit
def sample(value, start, x, y, right, lower, weight, inside, width, height, channels, channel, channel_ok):
    """Return the weighted samples, (BLOCK, BLOCK_C)."""
    a, _, _ = _load_corner(value, start, x, y, inside, width, height, channels, channel, channel_ok)
    b, _, _ = _load_corner(value, start, x + 1, y, inside, width, height, channels, channel, channel_ok)
    c, _, _ = _load_corner(value, start, x, y + 1, inside, width, height, channels, channel, channel_ok)
    d, _, _ = _load_corner(value, start, x + 1, y + 1, inside, width, height, channels, channel, channel_ok)
    upper, bottom = weight * (1 - lower), weight * lower
    return ((upper * (1 - right))[:, None] * a + (upper * right)[:, None] * b + (bottom * (1 - right))[:, None] * c
            + (bottom * right)[:, None] * d)


@triton.jit
def _corner_gradient(value, grad_value, start, x, y, inside, width, height, channels, channel, channel_ok, share,
                     direction, factor, FIXED: tl.constexpr):
    """Add the corner's share of the output gradient to its pixel; return the product with its values, (BLOCK,)."""
    found, at, exists = _load_corner(value, start, x, y, inside, width, height, channels, channel, channel_ok)
    pointers = grad_value + at[:, None] + channel[None, :]
    mask = exists[:, None] & channel_ok[None, :]
    term = share[:, None] * direction
    if FIXED:
        tl.atomic_add(pointers, (term * factor).to(tl.int64), mask=mask, sem='relaxed')
    else:
        tl.atomic_add(pointers, term, mask=mask, sem='relaxed')
    return tl.sum(found * direction, 1)


@triton.jit
def sample_gradients(value, grad_value, start, x, y, right, lower, weight, inside, width, height, channels, channel,
                     channel_ok, direction, factor, FIXED: tl.constexpr):
    """Return the gradients of weight, x and y (BLOCK,), and add to grad_value.

    ``direction`` (BLOCK, BLOCK_C) is the gradient of the samples. If FIXED, grad_value has 64-bit integers, the
    gradient times ``factor``, whose sums depend on no order.
    """
    upper, bottom = weight * (1 - lower), weight * lower
    a = _corner_gradient(value, grad_value, start, x, y, inside, width, height, channels, channel, channel_ok,
                         upper * (1 - right), direction, factor, FIXED)
    b = _corner_gradient(value, grad_value, start, x + 1, y, inside, width, height, channels, channel, channel_ok,
                         upper * right, direction, factor, FIXED)
    c = _corner_gradient(value, grad_value, start, x, y + 1, inside, width, height, channels, channel, channel_ok,
                         bottom * (1 - right), direction, factor, FIXED)
    d = _corner_gradient(value, grad_value, start, x + 1, y + 1, inside, width, height, channels, channel, channel_ok,
                         bottom * right, direction, factor, FIXED)
    of_weight = (1 - lower) * ((1 - right) * a + right * b) + lower * ((1 - right) * c + right * d)
    return (of_weight, ((1 - lower) * (b - a) + lower * (d - c)) * weight,
            ((1 - right) * (c - a) + right * (d - b)) * weight)
