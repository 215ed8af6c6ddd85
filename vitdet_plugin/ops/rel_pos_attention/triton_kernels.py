"""Attention with relative position bias, Triton kernels.

A program multiplies a block of queries with one tile of keys after the other: ``ROWS`` x ``COLUMNS`` positions of the
grid, so that the bias of a tile is ``rel_h[:, ROWS] + rel_w[:, COLUMNS]`` instead of one number for each score. Scores
are in base 2: ``lse`` is the base-2 logarithm of the sum of exponentials.

Shapes: G = batch (and windows), N = heads, Q = queries, K = height * width keys, d = DIM <= BLOCK_D. A tensor's strides
follow it in the order of its dimensions, without the last one, which is 1. Sums are float32.
"""

from __future__ import annotations

import triton
import triton.language as tl

from vitdet_plugin.ops.triton_products import product

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _slice_index(program, blocks, heads):
    """Return the index of the block, of the batch and of the head; the last two in 64 bits, as offsets may be large."""
    item = program // blocks
    return program % blocks, (item // heads).to(tl.int64), (item % heads).to(tl.int64)


@triton.jit
def _load_rows(pointer, first, row_stride, size, rows, columns, DIM: tl.constexpr):
    """Load rows ``first + rows`` below ``size`` of a matrix with DIM columns; zero elsewhere."""
    mask = (first + rows < size)[:, None] & (columns < DIM)[None, :]
    offsets = rows[:, None] * row_stride + columns[None, :]
    return tl.load(pointer + first.to(tl.int64) * row_stride + offsets, mask=mask, other=0.0)


@triton.jit
def _tile_keys(tile, tiles_x, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return y and x of the tile's first key, the keys' indices after it (ROWS * COLUMNS,) and which of them exist."""
    y, x = tile // tiles_x * ROWS, tile % tiles_x * COLUMNS
    positions = tl.arange(0, ROWS * COLUMNS)
    key_y, key_x = positions // COLUMNS, positions % COLUMNS
    return y, x, key_y * width + key_x, (y + key_y < height) & (x + key_x < width)


@triton.jit
def _load_keys(pointer, first, keys, valid, stride, columns, DIM: tl.constexpr):
    """Load the keys or values ``first + keys`` of a tile, (ROWS * COLUMNS, BLOCK_D); zero where there is none."""
    mask = valid[:, None] & (columns < DIM)[None, :]
    return tl.load(pointer + first.to(tl.int64) * stride + keys[:, None] * stride + columns[None, :], mask=mask,
                   other=0.0)


@triton.jit
def _bias(rel_h, h_stride, rel_w, w_stride, first, rows, queries, y, x, height, width, BLOCK_M: tl.constexpr,
          ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the bias of queries ``first + rows`` and a tile of keys, (BLOCK_M, ROWS * COLUMNS)."""
    index = (first + rows).to(tl.int64)
    row_ok = (first + rows < queries)[:, None]
    column = x + tl.arange(0, COLUMNS)
    of_w = tl.load(rel_w + index[:, None] * w_stride + column[None, :], mask=row_ok & (column < width)[None, :],
                   other=0.0).to(tl.float32)
    if ROWS == 1:
        of_h = tl.load(rel_h + index * h_stride + y, mask=first + rows < queries, other=0.0).to(tl.float32)
        bias = of_h[:, None] + of_w
    else:
        row = y + tl.arange(0, ROWS)
        of_h = tl.load(rel_h + index[:, None] * h_stride + row[None, :], mask=row_ok & (row < height)[None, :],
                       other=0.0).to(tl.float32)
        bias = tl.reshape(of_h[:, :, None] + of_w[:, None, :], [BLOCK_M, ROWS * COLUMNS])
    return bias


@triton.jit
def forward_kernel(q, q_g, q_n, q_q, k, k_g, k_n, k_k, v, v_g, v_n, v_k, rel_h, h_g, h_n, h_q, rel_w, w_g, w_n, w_q,
                   out, o_g, o_n, o_q, lse, heads, queries, height, width, tiles_x, scale,
                   DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, ROWS: tl.constexpr,
                   COLUMNS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Compute out (G, N, Q, d) and lse (G, N, Q); one program for each block of queries."""
    blocks = tl.cdiv(queries, BLOCK_M)
    block, g, n = _slice_index(tl.program_id(0), blocks, heads)
    first, rows, columns = block * BLOCK_M, tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    k += g * k_g + n * k_n
    v += g * v_g + n * v_n
    rel_h += g * h_g + n * h_n
    rel_w += g * w_g + n * w_n
    q_block = _load_rows(q + g * q_g + n * q_n, first, q_q, queries, rows, columns, DIM)
    largest = tl.full([BLOCK_M], float('-inf'), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    sums = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    for tile in range(0, tl.cdiv(height, ROWS) * tiles_x):
        y, x, keys, valid = _tile_keys(tile, tiles_x, height, width, ROWS, COLUMNS)
        k_tile = _load_keys(k, y * width + x, keys, valid, k_k, columns, DIM)
        bias = _bias(rel_h, h_q, rel_w, w_q, first, rows, queries, y, x, height, width, BLOCK_M, ROWS, COLUMNS)
        scores = product(q_block, tl.trans(k_tile), PRECISION, UPCAST) * (scale * LOG2E) + bias * LOG2E
        scores = tl.where(valid[None, :], scores, float('-inf'))
        new = tl.maximum(largest, tl.max(scores, 1))  # finite from the first tile on, which has a key
        p = tl.exp2(scores - new[:, None])
        decay = tl.exp2(largest - new)
        v_tile = _load_keys(v, y * width + x, keys, valid, v_k, columns, DIM)
        total = total * decay + tl.sum(p, 1)
        sums = sums * decay[:, None] + product(p.to(v_tile.dtype), v_tile, PRECISION, UPCAST)
        largest = new
    row_ok = first + rows < queries
    offsets = (first + rows).to(tl.int64)[:, None] * o_q + columns[None, :]
    tl.store(out + g * o_g + n * o_n + offsets, (sums / total[:, None]).to(out.dtype.element_ty),
             mask=row_ok[:, None] & (columns < DIM)[None, :])
    tl.store(lse + (g * heads + n) * queries + first + rows, largest + tl.log2(total), mask=row_ok)


@triton.jit
def delta_kernel(out, o_g, o_n, o_q, grad, d_g, d_n, d_q, delta, heads, queries, DIM: tl.constexpr,
                 BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr):
    """Compute delta (G, N, Q), the product of each row of the output and its gradient."""
    blocks = tl.cdiv(queries, BLOCK_M)
    block, g, n = _slice_index(tl.program_id(0), blocks, heads)
    first, rows, columns = block * BLOCK_M, tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    o_block = _load_rows(out + g * o_g + n * o_n, first, o_q, queries, rows, columns, DIM)
    d_block = _load_rows(grad + g * d_g + n * d_n, first, d_q, queries, rows, columns, DIM)
    row_sums = tl.sum(o_block.to(tl.float32) * d_block.to(tl.float32), 1)
    tl.store(delta + (g * heads + n) * queries + first + rows, row_sums, mask=first + rows < queries)


@triton.jit
def query_gradient_kernel(q, q_g, q_n, q_q, k, k_g, k_n, k_k, v, v_g, v_n, v_k, rel_h, h_g, h_n, h_q, rel_w, w_g, w_n,
                          w_q, grad, d_g, d_n, d_q, lse, delta, grad_q, grad_h, grad_w, heads, queries, height, width,
                          tiles_x, scale, DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
                          ROWS: tl.constexpr, COLUMNS: tl.constexpr, ONE_X: tl.constexpr, PRECISION: tl.constexpr,
                          UPCAST: tl.constexpr):
    """Compute grad_q (G, N, Q, d), grad_h (G, N, Q, H) and grad_w (G, N, Q, W), which are contiguous.

    ``ONE_X``: a tile is as wide as the grid. If not, grad_h and grad_w are float32 and zero before; each element is
    added to by one program only, in the order of its loop.
    """
    blocks = tl.cdiv(queries, BLOCK_M)
    block, g, n = _slice_index(tl.program_id(0), blocks, heads)
    first, rows, columns = block * BLOCK_M, tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    item = (g * heads + n) * queries
    k += g * k_g + n * k_n
    v += g * v_g + n * v_n
    rel_h += g * h_g + n * h_n
    rel_w += g * w_g + n * w_n
    row_ok = first + rows < queries
    q_block = _load_rows(q + g * q_g + n * q_n, first, q_q, queries, rows, columns, DIM)
    d_block = _load_rows(grad + g * d_g + n * d_n, first, d_q, queries, rows, columns, DIM)
    lse_block = tl.load(lse + item + first + rows, mask=row_ok, other=0.0)
    delta_block = tl.load(delta + item + first + rows, mask=row_ok, other=0.0)
    sums = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    sums_w = tl.zeros([BLOCK_M, COLUMNS], tl.float32)
    index = item + first + rows
    for tile in range(0, tl.cdiv(height, ROWS) * tiles_x):
        y, x, keys, valid = _tile_keys(tile, tiles_x, height, width, ROWS, COLUMNS)
        k_tile = _load_keys(k, y * width + x, keys, valid, k_k, columns, DIM)
        v_tile = _load_keys(v, y * width + x, keys, valid, v_k, columns, DIM)
        bias = _bias(rel_h, h_q, rel_w, w_q, first, rows, queries, y, x, height, width, BLOCK_M, ROWS, COLUMNS)
        scores = product(q_block, tl.trans(k_tile), PRECISION, UPCAST) * (scale * LOG2E) + bias * LOG2E
        p = tl.where(valid[None, :], tl.exp2(scores - lse_block[:, None]), 0.0)
        grad_s = p * (product(d_block, tl.trans(v_tile), PRECISION, UPCAST) - delta_block[:, None])
        sums += product(grad_s.to(k_tile.dtype), k_tile, PRECISION, UPCAST)
        column = x + tl.arange(0, COLUMNS)
        if ROWS == 1:
            of_w = grad_s
            of_h = tl.sum(grad_s, 1)[:, None]
            row = y + tl.zeros([1], tl.int32)
        else:
            grid = tl.reshape(grad_s, [BLOCK_M, ROWS, COLUMNS])
            of_w = tl.sum(grid, 1)
            of_h = tl.sum(grid, 2)
            row = y + tl.arange(0, ROWS)
        h_pointers = grad_h + index[:, None] * height + row[None, :]
        h_mask = row_ok[:, None] & (row < height)[None, :]
        if ONE_X:
            sums_w += of_w
            tl.store(h_pointers, of_h.to(grad_h.dtype.element_ty), mask=h_mask)
        else:
            tl.atomic_add(h_pointers, of_h, mask=h_mask, sem='relaxed')
            tl.atomic_add(grad_w + index[:, None] * width + column[None, :], of_w,
                          mask=row_ok[:, None] & (column < width)[None, :], sem='relaxed')
    tl.store(grad_q + index[:, None] * DIM + columns[None, :], (sums * scale).to(grad_q.dtype.element_ty),
             mask=row_ok[:, None] & (columns < DIM)[None, :])
    if ONE_X:
        column = tl.arange(0, COLUMNS)
        tl.store(grad_w + index[:, None] * width + column[None, :], sums_w.to(grad_w.dtype.element_ty),
                 mask=row_ok[:, None] & (column < width)[None, :])


@triton.jit
def _transposed_bias(rel_h, h_stride, rel_w, w_stride, first, rows, queries, y, x, height, width,
                     BLOCK_M: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return the bias of a tile of keys and queries ``first + rows``, (ROWS * COLUMNS, BLOCK_M)."""
    index = (first + rows).to(tl.int64)
    row_ok = (first + rows < queries)[None, :]
    column = x + tl.arange(0, COLUMNS)
    of_w = tl.load(rel_w + index[None, :] * w_stride + column[:, None], mask=row_ok & (column < width)[:, None],
                   other=0.0).to(tl.float32)
    if ROWS == 1:
        of_h = tl.load(rel_h + index * h_stride + y, mask=first + rows < queries, other=0.0).to(tl.float32)
        bias = of_h[None, :] + of_w
    else:
        row = y + tl.arange(0, ROWS)
        of_h = tl.load(rel_h + index[None, :] * h_stride + row[:, None], mask=row_ok & (row < height)[:, None],
                       other=0.0).to(tl.float32)
        bias = tl.reshape(of_h[:, None, :] + of_w[None, :, :], [ROWS * COLUMNS, BLOCK_M])
    return bias


@triton.jit
def key_gradient_kernel(q, q_g, q_n, q_q, k, k_g, k_n, k_k, v, v_g, v_n, v_k, rel_h, h_g, h_n, h_q, rel_w, w_g, w_n,
                        w_q, grad, d_g, d_n, d_q, lse, delta, grad_k, grad_v, heads, queries, height, width, tiles_x,
                        scale, DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, ROWS: tl.constexpr,
                        COLUMNS: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Compute grad_k and grad_v (G, N, K, d), which are contiguous; one program for each tile of keys."""
    tiles = tl.cdiv(height, ROWS) * tiles_x
    tile, g, n = _slice_index(tl.program_id(0), tiles, heads)
    rows, columns = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    item = (g * heads + n) * queries
    q += g * q_g + n * q_n
    grad += g * d_g + n * d_n
    rel_h += g * h_g + n * h_n
    rel_w += g * w_g + n * w_n
    y, x, keys, valid = _tile_keys(tile, tiles_x, height, width, ROWS, COLUMNS)
    k_tile = _load_keys(k + g * k_g + n * k_n, y * width + x, keys, valid, k_k, columns, DIM)
    v_tile = _load_keys(v + g * v_g + n * v_n, y * width + x, keys, valid, v_k, columns, DIM)
    sums_k = tl.zeros([ROWS * COLUMNS, BLOCK_D], tl.float32)
    sums_v = tl.zeros([ROWS * COLUMNS, BLOCK_D], tl.float32)
    for block in range(0, tl.cdiv(queries, BLOCK_M)):
        first = block * BLOCK_M
        row_ok = first + rows < queries
        q_block = _load_rows(q, first, q_q, queries, rows, columns, DIM)
        d_block = _load_rows(grad, first, d_q, queries, rows, columns, DIM)
        lse_block = tl.load(lse + item + first + rows, mask=row_ok, other=float('inf'))  # p is zero for no query
        delta_block = tl.load(delta + item + first + rows, mask=row_ok, other=0.0)
        bias = _transposed_bias(rel_h, h_q, rel_w, w_q, first, rows, queries, y, x, height, width, BLOCK_M, ROWS,
                                COLUMNS)
        scores = product(k_tile, tl.trans(q_block), PRECISION, UPCAST) * (scale * LOG2E) + bias * LOG2E
        p = tl.exp2(scores - lse_block[None, :])
        sums_v += product(p.to(d_block.dtype), d_block, PRECISION, UPCAST)
        grad_s = p * (product(v_tile, tl.trans(d_block), PRECISION, UPCAST) - delta_block[None, :])
        sums_k += product(grad_s.to(q_block.dtype), q_block, PRECISION, UPCAST)
    mask = valid[:, None] & (columns < DIM)[None, :]
    offsets = ((g * heads + n) * height * width + y * width + x + keys)[:, None] * DIM + columns[None, :]
    tl.store(grad_k + offsets, (sums_k * scale).to(grad_k.dtype.element_ty), mask=mask)
    tl.store(grad_v + offsets, sums_v.to(grad_v.dtype.element_ty), mask=mask)
