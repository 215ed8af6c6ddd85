"""Outlook attention with windows of 3 x 3, Triton kernels. All sums are gathered, so there are no atomic operations.

A program computes a block of pixels of one image and head. The pixels of a block have the same remainders of row and
column by the stride, so that they have the same positions in the windows that contain them.

Shapes: v and out (B, height, width, heads * DIM), a (B, rows, columns, heads * 81), lse (B, rows, columns, heads * 9);
all contiguous. ``lse`` is the logarithm of the sum of exponentials of a row of a, one for each position of a window; it
is written only for positions inside the image, and read only there. Sums are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _pixels(height, width, heads, stride, BLOCK: tl.constexpr):
    """Return image, head, and row, column and validity of a block of pixels (BLOCK,) of one remainder."""
    per_row, per_column = tl.cdiv(width, stride), tl.cdiv(height, stride)
    blocks = tl.cdiv(per_row * per_column, BLOCK)
    program = tl.program_id(0)
    index = program % blocks * BLOCK + tl.arange(0, BLOCK)
    item = program // blocks
    remainder = item % (stride * stride)
    item = item // (stride * stride)
    row = index // per_row * stride + remainder // stride
    column = index % per_row * stride + remainder % stride
    return (item // heads).to(tl.int64), item % heads, row, column, (row < height) & (column < width)


@triton.jit
def _window(row, column, ok, position_y, position_x, rows, columns, stride, padding):
    """Return the windows that contain the pixels at a position, and which of them exist: (BLOCK,).

    ``row + padding - position_y`` is a multiple of the stride for all of them.
    """
    top, left = row + padding - position_y, column + padding - position_x
    y, x = top // stride, left // stride
    exists = ok & (top >= 0) & (left >= 0) & (y < rows) & (x < columns)
    return y, x, exists


@triton.jit
def _row_of_scores(a, window, exists, position, scale):
    """Return a row of nine scores of each window, scaled, (BLOCK, 16); minus infinity in the other columns."""
    column = tl.arange(0, 16)
    offsets = window[:, None] * 81 + position * 9 + column[None, :]
    scores = tl.load(a + offsets, mask=exists[:, None] & (column < 9)[None, :], other=0.0).to(tl.float32) * scale
    return tl.where((column < 9)[None, :], scores, float('-inf'))


@triton.jit
def _load_position(tensor, image, y, x, position, exists, height, width, channels, channel, stride, padding,
                   DIM: tl.constexpr):
    """Load the pixels at a position of windows (BLOCK, BLOCK_D), zero outside the image."""
    row, column = y * stride - padding + position // 3, x * stride - padding + position % 3
    inside = exists & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    offsets = ((image * height + row) * width + column)[:, None] * channels + channel[None, :]
    return tl.load(tensor + offsets, mask=inside[:, None] & (channel < DIM)[None, :], other=0.0).to(tl.float32)


@triton.jit
def forward_kernel(v, a, out, lse, height, width, rows, columns, heads, stride, padding, scale, DIM: tl.constexpr,
                   BLOCK_D: tl.constexpr, BLOCK: tl.constexpr):
    """Compute out and lse."""
    image, head, row, column, ok = _pixels(height, width, heads, stride, BLOCK)
    channels, channel = heads * DIM, tl.arange(0, BLOCK_D)
    first_y, first_x = (tl.min(row) + padding) % stride, (tl.min(column) + padding) % stride
    v += head * DIM
    sums = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for position_y in range(first_y, 3, stride):
        for position_x in range(first_x, 3, stride):
            position = position_y * 3 + position_x
            y, x, exists = _window(row, column, ok, position_y, position_x, rows, columns, stride, padding)
            window = ((image * rows + y) * columns + x) * heads + head
            scores = _row_of_scores(a, window, exists, position, scale)
            largest = tl.max(scores, 1)
            logarithm = largest + tl.log(tl.sum(tl.exp(scores - largest[:, None]), 1))
            tl.store(lse + window * 9 + position, logarithm, mask=exists)
            for other in range(9):
                score = tl.load(a + window * 81 + position * 9 + other, mask=exists, other=0.0).to(tl.float32)
                weight = tl.where(exists, tl.exp(score * scale - logarithm), 0.0)
                value = _load_position(v, image, y, x, other, exists, height, width, channels, channel, stride,
                                       padding, DIM)
                sums += weight[:, None] * value
    offsets = ((image * height + row) * width + column)[:, None] * channels + head * DIM + channel[None, :]
    tl.store(out + offsets, sums.to(out.dtype.element_ty), mask=ok[:, None] & (channel < DIM)[None, :])


@triton.jit
def value_gradient_kernel(grad, a, lse, grad_v, height, width, rows, columns, heads, stride, padding, scale,
                          DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr):
    """Compute grad_v: for each window with the pixel, the weights of its column times the windows' gradients."""
    image, head, row, column, ok = _pixels(height, width, heads, stride, BLOCK)
    channels, channel = heads * DIM, tl.arange(0, BLOCK_D)
    first_y, first_x = (tl.min(row) + padding) % stride, (tl.min(column) + padding) % stride
    grad += head * DIM
    sums = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for position_y in range(first_y, 3, stride):
        for position_x in range(first_x, 3, stride):
            position = position_y * 3 + position_x
            y, x, exists = _window(row, column, ok, position_y, position_x, rows, columns, stride, padding)
            window = ((image * rows + y) * columns + x) * heads + head
            for other in range(9):
                top, left = y * stride - padding + other // 3, x * stride - padding + other % 3
                inside = exists & (top >= 0) & (top < height) & (left >= 0) & (left < width)
                score = tl.load(a + window * 81 + other * 9 + position, mask=inside, other=0.0).to(tl.float32)
                logarithm = tl.load(lse + window * 9 + other, mask=inside, other=0.0)
                weight = tl.where(inside, tl.exp(score * scale - logarithm), 0.0)
                direction = _load_position(grad, image, y, x, other, exists, height, width, channels, channel, stride,
                                           padding, DIM)
                sums += weight[:, None] * direction
    offsets = ((image * height + row) * width + column)[:, None] * channels + head * DIM + channel[None, :]
    tl.store(grad_v + offsets, sums.to(grad_v.dtype.element_ty), mask=ok[:, None] & (channel < DIM)[None, :])


@triton.jit
def score_gradient_kernel(grad, v, a, lse, grad_a, height, width, rows, columns, heads, stride, padding, scale,
                          DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr):
    """Compute the rows of grad_a whose position is inside the image; the others are zero and not written."""
    image, head, row, column, ok = _pixels(height, width, heads, stride, BLOCK)
    channels, channel = heads * DIM, tl.arange(0, BLOCK_D)
    first_y, first_x = (tl.min(row) + padding) % stride, (tl.min(column) + padding) % stride
    v += head * DIM
    offsets = ((image * height + row) * width + column)[:, None] * channels + head * DIM + channel[None, :]
    direction = tl.load(grad + offsets, mask=ok[:, None] & (channel < DIM)[None, :], other=0.0).to(tl.float32)
    lane = tl.arange(0, 16)
    for position_y in range(first_y, 3, stride):
        for position_x in range(first_x, 3, stride):
            position = position_y * 3 + position_x
            y, x, exists = _window(row, column, ok, position_y, position_x, rows, columns, stride, padding)
            window = ((image * rows + y) * columns + x) * heads + head
            logarithm = tl.load(lse + window * 9 + position, mask=exists, other=0.0)
            weights = tl.exp(_row_of_scores(a, window, exists, position, scale) - logarithm[:, None])
            products = tl.zeros([BLOCK, 16], tl.float32)
            for other in range(9):
                value = _load_position(v, image, y, x, other, exists, height, width, channels, channel, stride,
                                       padding, DIM)
                products = tl.where((lane == other)[None, :], tl.sum(direction * value, 1)[:, None], products)
            expected = tl.sum(weights * products, 1)
            gradient = weights * (products - expected[:, None]) * scale
            tl.store(grad_a + window[:, None] * 81 + position * 9 + lane[None, :],
                     gradient.to(grad_a.dtype.element_ty), mask=exists[:, None] & (lane < 9)[None, :])
