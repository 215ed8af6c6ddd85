"""Non-maximum suppression, Triton kernels.

Boxes are sorted by descending score. Bit j of word w of row i is 1 if box i removes box 64 w + j, so that the
sequence of decisions takes one step for 64 boxes, in registers, rather than one for each box.

Shapes: boxes (B, 4, N), areas (B, N), masks (B, N, words) int64 with words = ceil(N / 64), keep (B, N) bool.
"""

from __future__ import annotations

import triton
import triton.language as tl

BITS = tl.constexpr(64)


@triton.jit
def _or(a, b):
    return a | b


@triton.jit
def overlap_kernel(boxes, areas, masks, count, words, threshold):
    """Compute one word for each of 64 boxes; a program for each pair of blocks, of which the upper ones are used."""
    row_block, column_block, image = tl.program_id(1), tl.program_id(0), tl.program_id(2).to(tl.int64)
    boxes += image * 4 * count
    areas += image * count
    masks += image * count * words
    if column_block >= row_block:
        bits = tl.arange(0, BITS)
        rows, columns = row_block * BITS + bits, column_block * BITS + bits
        row_ok, column_ok = rows < count, columns < count
        left = tl.maximum(tl.load(boxes + rows, row_ok, 0.0)[:, None],
                          tl.load(boxes + columns, column_ok, 0.0)[None, :])
        top = tl.maximum(tl.load(boxes + count + rows, row_ok, 0.0)[:, None],
                         tl.load(boxes + count + columns, column_ok, 0.0)[None, :])
        right = tl.minimum(tl.load(boxes + 2 * count + rows, row_ok, 0.0)[:, None],
                           tl.load(boxes + 2 * count + columns, column_ok, 0.0)[None, :])
        bottom = tl.minimum(tl.load(boxes + 3 * count + rows, row_ok, 0.0)[:, None],
                            tl.load(boxes + 3 * count + columns, column_ok, 0.0)[None, :])
        intersection = tl.maximum(right - left, 0.0) * tl.maximum(bottom - top, 0.0)
        union = (tl.load(areas + rows, row_ok, 0.0)[:, None] + tl.load(areas + columns, column_ok, 0.0)[None, :]
                 - intersection)
        removed = tl.div_rn(intersection, union) > threshold  # false for empty boxes, whose IoU is 0 / 0
        removed = removed & (columns[None, :] > rows[:, None]) & column_ok[None, :]
        word = tl.sum(tl.where(removed, tl.full([1], 1, tl.int64) << bits[None, :].to(tl.int64), 0), 1)
        tl.store(masks + rows.to(tl.int64) * words + column_block, word, mask=row_ok)


@triton.jit
def select_kernel(masks, keep, count, words, WORDS: tl.constexpr, ROWS: tl.constexpr):
    """Set ``keep``; one program an image. ``WORDS``: power of 2 from ``words`` on. ``ROWS``: rows read at once."""
    image = tl.program_id(0).to(tl.int64)
    masks += image * count * words
    keep += image * count
    columns, bits = tl.arange(0, WORDS), tl.arange(0, BITS)
    removed = tl.zeros([WORDS], tl.int64)
    for block in range(0, words):
        first = block * BITS
        word = tl.sum(tl.where(columns == block, removed, 0))
        for i in range(0, BITS):
            row = tl.load(masks + (first + i).to(tl.int64) * words + block, mask=first + i < count, other=0)
            word = tl.where((word >> i) & 1 == 0, word | row, word)
        kept = ((word >> bits.to(tl.int64)) & 1 == 0) & (first + bits < count)
        tl.store(keep + first + bits, kept, mask=first + bits < count)
        for start in range(0, BITS, ROWS):
            rows = start + tl.arange(0, ROWS)
            use = ((word >> rows.to(tl.int64)) & 1 == 0) & (first + rows < count)
            mask = use[:, None] & ((columns > block) & (columns < words))[None, :]
            found = tl.load(masks + (first + rows).to(tl.int64)[:, None] * words + columns[None, :], mask=mask, other=0)
            removed = removed | tl.reduce(found, 0, _or)
