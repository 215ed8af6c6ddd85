"""Position embeddings against PyTorch's interpolation and naive loops."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdet_plugin.errors import UserError
from vitdet_plugin.layers.pos_embed import decomposed_rel_pos, rel_pos_rows, resize_abs_pos


@pytest.mark.parametrize('has_cls_slot', [True, False])
@pytest.mark.parametrize('hw', [(4, 4), (6, 6), (3, 7), (9, 2)])
def test_resize_abs_pos_is_the_bicubic_interpolation_of_the_grid(hw, has_cls_slot):
    pos = torch.randn(1, 16 + has_cls_slot, 5)
    grid = pos[:, int(has_cls_slot):].view(1, 4, 4, 5)
    expected = torch.stack([F.interpolate(grid[None, ..., c], size=hw, mode='bicubic', align_corners=False)[0, 0]
                            for c in range(5)], -1)
    torch.testing.assert_close(resize_abs_pos(pos, hw, has_cls_slot=has_cls_slot)[0], expected)


def test_resize_abs_pos_at_the_native_size_is_exact():
    pos = torch.randn(1, 17, 3)
    assert torch.equal(resize_abs_pos(pos, (4, 4), has_cls_slot=True).flatten(1, 2), pos[:, 1:])


def test_resize_abs_pos_reports_a_wrong_class_slot():
    with pytest.raises(UserError, match='17 patch positions.*has_cls_slot=False'):
        resize_abs_pos(torch.zeros(1, 17, 3), (4, 4), has_cls_slot=False)


def naive_rows(table, size):
    """One distance at a time."""
    length = 2 * size - 1
    if len(table) != length:
        columns = [F.interpolate(table[:, c].view(1, 1, -1), size=length, mode='linear')[0, 0]
                   for c in range(table.shape[1])]
        table = torch.stack(columns, -1)
    return torch.stack([torch.stack([table[i - j + size - 1] for j in range(size)]) for i in range(size)])


@settings(max_examples=60)
@given(size=st.integers(1, 12), rows=st.integers(1, 20))
def test_rel_pos_rows_against_loops(size, rows):
    table = torch.randn(rows, 3)
    torch.testing.assert_close(rel_pos_rows(table, size), naive_rows(table, size))


def test_rel_pos_rows_look_up_the_difference():
    table = torch.arange(9.0)[:, None]  # row 4 is distance 0
    rows = rel_pos_rows(table, 5)[..., 0]
    assert torch.equal(rows, torch.arange(5.0)[:, None] - torch.arange(5.0)[None] + 4)


def test_rel_pos_rows_interpolates_in_float32_and_keeps_the_dtype():
    table = torch.randn(7, 4, dtype=torch.bfloat16)
    rows = rel_pos_rows(table, 6)
    assert rows.dtype == torch.bfloat16
    assert torch.equal(rows, rel_pos_rows(table.float(), 6).bfloat16())


def test_decomposed_rel_pos_against_loops():
    h, w, dim = 3, 4, 5
    q = torch.randn(2, 2, h * w, dim)
    table_h, table_w = torch.randn(2 * h - 1, dim), torch.randn(9, dim)
    rows_h, rows_w = naive_rows(table_h, h), naive_rows(table_w, w)
    rel_h, rel_w = decomposed_rel_pos(q, table_h, table_w, (h, w))
    assert rel_h.shape == (2, 2, h * w, h) and rel_w.shape == (2, 2, h * w, w)
    for y in range(h):
        for x in range(w):
            query = q[:, :, y * w + x]
            torch.testing.assert_close(rel_h[:, :, y * w + x], query @ rows_h[y].T)
            torch.testing.assert_close(rel_w[:, :, y * w + x], query @ rows_w[x].T)
