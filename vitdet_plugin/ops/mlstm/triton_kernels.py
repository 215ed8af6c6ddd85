"""The chunkwise mLSTM cell, Triton kernels: one for the states before each chunk, one for the outputs, two backward.

The factors that depend on the gates alone are computed by PyTorch; see
:mod:`vitdet_plugin.ops.mlstm.chunkwise`, whose symbols are used here. States and sums are float32.

Shapes: q, k, v, out and their gradients (G, tokens, DIM), contiguous; C, D (G, chunks, DIM, DIM); n (G, chunks, DIM);
numbers of each token (G, chunks * CHUNK), except total, bound and grad_total, (G, tokens).
"""

from __future__ import annotations

import triton
import triton.language as tl

from vitdet_plugin.ops.triton_products import product


@triton.jit
def _rows(pointer, index, tokens, columns, DIM: tl.constexpr):
    """Load some columns of some tokens; zero elsewhere."""
    mask = (index < tokens)[:, None] & (columns < DIM)[None, :]
    return tl.load(pointer + index[:, None] * DIM + columns[None, :], mask=mask, other=0.0)


@triton.jit
def _similarity(a, b, rows, columns, tokens, DIM: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr,
                PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Return the products of some tokens of two tensors, (BLOCK, BLOCK)."""
    sums = tl.zeros([BLOCK, BLOCK], tl.float32)
    for first in range(0, DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        sums += product(_rows(a, rows, tokens, dims, DIM), tl.trans(_rows(b, columns, tokens, dims, DIM)), PRECISION,
                        UPCAST)
    return sums


@triton.jit
def _weights(key, key_rest, query, query_rest, rows, columns):
    """Return exp(u_j - max_{j<=t} u_j) of tokens t (rows) and j (columns), zero for j > t."""
    exponents = tl.load(key + columns)[None, :] - tl.load(query + rows)[:, None]
    exponents += tl.load(key_rest + columns)[None, :] - tl.load(query_rest + rows)[:, None]
    return tl.where(columns[None, :] <= rows[:, None], tl.exp(tl.minimum(exponents, 0.0)), 0.0)


@triton.jit
def _place(chunks, DIM: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr):
    """Return the program's block of dimensions, block of tokens in the chunk, chunk, and index along G in 64 bits."""
    blocks, parts = tl.cdiv(DIM, BLOCK_D), CHUNK // BLOCK
    item = tl.program_id(0) // blocks
    return tl.program_id(0) % blocks, item % parts, item // parts % chunks, (item // parts // chunks).to(tl.int64)


@triton.jit
def states_kernel(left, right, weight, extra, keep, states, sums, tokens, chunks, scale, DIM: tl.constexpr,
                  BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, REVERSE: tl.constexpr, BLOCK: tl.constexpr,
                  PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Compute the state before each chunk, or, if REVERSE, that after each chunk of the reversed sequence.

    A chunk adds the sum of ``weight * scale * left right^T`` to the states (G, chunks, DIM, DIM), and the same with
    ``extra`` in place of ``right`` to the sums (G, chunks, DIM), and multiplies what was there by ``keep``.
    """
    blocks = tl.cdiv(DIM, BLOCK_D)
    g = (tl.program_id(0) // (blocks * blocks)).to(tl.int64)
    i, j = tl.program_id(0) // blocks % blocks, tl.program_id(0) % blocks
    rows, columns = i * BLOCK_D + tl.arange(0, BLOCK_D), j * BLOCK_D + tl.arange(0, BLOCK_D)
    left += g * tokens * DIM
    right += g * tokens * DIM
    weight += g * chunks * CHUNK
    extra += g * chunks * CHUNK
    state = tl.zeros([BLOCK_D, BLOCK_D], tl.float32)
    total = tl.zeros([BLOCK_D], tl.float32)
    inside = (rows < DIM)[:, None] & (columns < DIM)[None, :]
    for step in range(0, chunks):
        chunk = step
        if REVERSE:
            chunk = chunks - 1 - step
        item = g * chunks + chunk
        tl.store(states + (item * DIM + rows[:, None]) * DIM + columns[None, :], state, mask=inside)
        tl.store(sums + item * DIM + rows, total, mask=(rows < DIM) & (j == 0))
        factor = tl.load(keep + item)
        state *= factor
        total *= factor
        for first in range(0, CHUNK, BLOCK):
            index = chunk * CHUNK + first + tl.arange(0, BLOCK)
            a = _rows(left, index, tokens, rows, DIM)
            weighted = a.to(tl.float32) * (tl.load(weight + index) * scale)[:, None]
            state += product(tl.trans(weighted.to(a.dtype)), _rows(right, index, tokens, columns, DIM), PRECISION,
                             UPCAST)
            total += tl.sum(weighted * tl.load(extra + index)[:, None], 0)


@triton.jit
def output_kernel(q, k, v, key, key_rest, query, query_rest, reached, floor, states, sums, out, total, tokens, chunks,
                  scale, eps, DIM: tl.constexpr, BLOCK_D: tl.constexpr, CHUNK: tl.constexpr, BLOCK: tl.constexpr,
                  PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Compute out and total; one program for a block of tokens and of dimensions of v."""
    j, part, chunk, g = _place(chunks, DIM, BLOCK_D, CHUNK, BLOCK)
    q += g * tokens * DIM
    k += g * tokens * DIM
    v += g * tokens * DIM
    gates = g * chunks * CHUNK
    start = chunk * CHUNK
    rows = start + part * BLOCK + tl.arange(0, BLOCK)
    columns = j * BLOCK_D + tl.arange(0, BLOCK_D)
    numerator = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    row_sums = tl.zeros([BLOCK], tl.float32)
    for first in range(0, (part + 1) * BLOCK, BLOCK):
        index = start + first + tl.arange(0, BLOCK)
        scores = _similarity(q, k, rows, index, tokens, DIM, BLOCK_D, BLOCK, PRECISION, UPCAST) * scale
        scores *= _weights(key + gates, key_rest + gates, query + gates, query_rest + gates, rows, index)
        row_sums += tl.sum(scores, 1)
        values = _rows(v, index, tokens, columns, DIM)
        numerator += product(scores.to(values.dtype), values, PRECISION, UPCAST)
    factor = tl.load(reached + gates + rows) * scale
    states += (g * chunks + chunk) * DIM * DIM
    sums += (g * chunks + chunk) * DIM
    for first in range(0, DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        a = _rows(q, rows, tokens, dims, DIM)
        weighted = a.to(tl.float32) * factor[:, None]
        row_sums += tl.sum(weighted * tl.load(sums + dims, mask=dims < DIM, other=0.0)[None, :], 1)
        state = _rows(states, dims, DIM, columns, DIM)
        numerator += product(weighted.to(a.dtype), state.to(a.dtype), PRECISION, UPCAST)
    bound = tl.maximum(tl.abs(row_sums), tl.load(floor + gates + rows)) + eps
    offsets = (g * tokens + rows)[:, None] * DIM + columns[None, :]
    tl.store(out + offsets, (numerator / bound[:, None]).to(out.dtype.element_ty),
             mask=(rows < tokens)[:, None] & (columns < DIM)[None, :])
    tl.store(total + g * tokens + rows, row_sums, mask=(rows < tokens) & (j == 0))


@triton.jit
def query_gradient_kernel(q, k, v, grad_n, key, key_rest, query, query_rest, reached, grad_total, states, sums, grad_q,
                          within, across, tokens, chunks, scale, DIM: tl.constexpr, BLOCK_D: tl.constexpr,
                          CHUNK: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Compute grad_q; one program for a block of tokens and of dimensions of q.

    ``within`` and ``across`` (blocks, G, chunks * CHUNK): this block's part of the product of q with its gradient
    through the own chunk and through the state.
    """
    j, part, chunk, g = _place(chunks, DIM, BLOCK_D, CHUNK, BLOCK)
    groups = tl.num_programs(0) // (tl.cdiv(DIM, BLOCK_D) * (CHUNK // BLOCK) * chunks)
    q += g * tokens * DIM
    k += g * tokens * DIM
    v += g * tokens * DIM
    grad_n += g * tokens * DIM
    gates = g * chunks * CHUNK
    start = chunk * CHUNK
    rows = start + part * BLOCK + tl.arange(0, BLOCK)
    columns = j * BLOCK_D + tl.arange(0, BLOCK_D)
    of_total = tl.load(grad_total + gates + rows)
    own = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for first in range(0, (part + 1) * BLOCK, BLOCK):
        index = start + first + tl.arange(0, BLOCK)
        grad_s = _similarity(grad_n, v, rows, index, tokens, DIM, BLOCK_D, BLOCK, PRECISION, UPCAST)
        grad_s = (grad_s + of_total[:, None]) * _weights(key + gates, key_rest + gates, query + gates,
                                                         query_rest + gates, rows, index)
        keys = _rows(k, index, tokens, columns, DIM)
        own += product(grad_s.to(keys.dtype), keys, PRECISION, UPCAST)
    own *= scale
    states += (g * chunks + chunk) * DIM * DIM
    other = of_total[:, None] * tl.load(sums + (g * chunks + chunk) * DIM + columns, mask=columns < DIM,
                                        other=0.0)[None, :]
    for first in range(0, DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        a = _rows(grad_n, rows, tokens, dims, DIM)
        state = _rows(states, columns, DIM, dims, DIM)
        other += product(a, tl.trans(state.to(a.dtype)), PRECISION, UPCAST)
    other *= (tl.load(reached + gates + rows) * scale)[:, None]
    queries = _rows(q, rows, tokens, columns, DIM).to(tl.float32)
    place = (j * groups + g) * chunks * CHUNK + rows
    tl.store(within + place, tl.sum(queries * own, 1))
    tl.store(across + place, tl.sum(queries * other, 1))
    offsets = (g * tokens + rows)[:, None] * DIM + columns[None, :]
    tl.store(grad_q + offsets, (own + other).to(grad_q.dtype.element_ty),
             mask=(rows < tokens)[:, None] & (columns < DIM)[None, :])


@triton.jit
def key_gradient_kernel(q, k, v, grad_n, key, key_rest, query, query_rest, entered, grad_total, states, sums, grad_k,
                        grad_v, within, across, tokens, chunks, scale, DIM: tl.constexpr, BLOCK_D: tl.constexpr,
                        CHUNK: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """Compute grad_k and grad_v; as :func:`query_gradient_kernel`, with the gradients of the states."""
    j, part, chunk, g = _place(chunks, DIM, BLOCK_D, CHUNK, BLOCK)
    groups = tl.num_programs(0) // (tl.cdiv(DIM, BLOCK_D) * (CHUNK // BLOCK) * chunks)
    q += g * tokens * DIM
    k += g * tokens * DIM
    v += g * tokens * DIM
    grad_n += g * tokens * DIM
    gates = g * chunks * CHUNK
    start = chunk * CHUNK
    index = start + part * BLOCK + tl.arange(0, BLOCK)
    columns = j * BLOCK_D + tl.arange(0, BLOCK_D)
    own_k = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    own_v = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    for first in range(part * BLOCK, CHUNK, BLOCK):
        rows = start + first + tl.arange(0, BLOCK)
        weights = _weights(key + gates, key_rest + gates, query + gates, query_rest + gates, rows, index)
        scores = _similarity(q, k, rows, index, tokens, DIM, BLOCK_D, BLOCK, PRECISION, UPCAST) * scale * weights
        directions = _rows(grad_n, rows, tokens, columns, DIM)
        own_v += product(tl.trans(scores.to(directions.dtype)), directions, PRECISION, UPCAST)
        grad_s = _similarity(grad_n, v, rows, index, tokens, DIM, BLOCK_D, BLOCK, PRECISION, UPCAST)
        grad_s = (grad_s + tl.load(grad_total + gates + rows)[:, None]) * weights
        queries = _rows(q, rows, tokens, columns, DIM)
        own_k += product(tl.trans(grad_s.to(queries.dtype)), queries, PRECISION, UPCAST)
    own_k *= scale
    states += (g * chunks + chunk) * DIM * DIM
    factor = tl.load(entered + gates + index)[:, None]
    other_k = tl.zeros([BLOCK, BLOCK_D], tl.float32)
    other_k += tl.load(sums + (g * chunks + chunk) * DIM + columns, mask=columns < DIM, other=0.0)[None, :]
    for first in range(0, DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        values = _rows(v, index, tokens, dims, DIM)
        state = _rows(states, columns, DIM, dims, DIM)
        other_k += product(values, tl.trans(state.to(values.dtype)), PRECISION, UPCAST)
        keys = _rows(k, index, tokens, dims, DIM)
        state = _rows(states, dims, DIM, columns, DIM)
        weighted = (keys.to(tl.float32) * factor).to(keys.dtype)
        own_v += product(weighted, state.to(keys.dtype), PRECISION, UPCAST)
    other_k *= factor
    keys = _rows(k, index, tokens, columns, DIM).to(tl.float32)
    place = (j * groups + g) * chunks * CHUNK + index
    tl.store(within + place, tl.sum(keys * own_k, 1))
    tl.store(across + place, tl.sum(keys * other_k, 1))
    offsets = (g * tokens + index)[:, None] * DIM + columns[None, :]
    mask = (index < tokens)[:, None] & (columns < DIM)[None, :]
    tl.store(grad_k + offsets, (own_k + other_k).to(grad_k.dtype.element_ty), mask=mask)
    tl.store(grad_v + offsets, own_v.to(grad_v.dtype.element_ty), mask=mask)
