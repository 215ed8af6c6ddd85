"""Windows and padding against index arithmetic."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitdet_plugin.layers.window import pad_with, padded_size, window_partition, window_unpartition

FEW = settings(max_examples=40)


@FEW
@given(batch=st.integers(1, 3), rows=st.integers(1, 4), columns=st.integers(1, 4), window=st.integers(1, 5),
       channels=st.integers(1, 3))
def test_partition_is_row_by_row_and_unpartition_inverts_it(batch, rows, columns, window, channels):
    height, width = rows * window, columns * window
    x = torch.arange(batch * height * width * channels).view(batch, height, width, channels)
    windows = window_partition(x, window)
    assert windows.shape == (batch * rows * columns, window, window, channels)
    for i in range(len(windows)):
        image, row, column = i // (rows * columns), i // columns % rows, i % columns
        top, left = row * window, column * window
        assert torch.equal(windows[i], x[image, top:top + window, left:left + window])
    assert torch.equal(window_unpartition(windows, (height, width)), x)


@FEW
@given(size=st.integers(1, 40), window=st.integers(1, 15), offset=st.integers(0, 7))
def test_padded_size_is_the_smallest_multiple_that_contains_offset_and_size(size, window, offset):
    padded = padded_size(size, window, offset)
    assert padded % window == 0
    assert padded >= size + offset > padded - window


@FEW
@given(h=st.integers(1, 5), w=st.integers(1, 5), more_h=st.integers(0, 4), more_w=st.integers(0, 4), data=st.data())
def test_pad_with_surrounds_the_map_with_the_value(h, w, more_h, more_w, data):
    offset = data.draw(st.integers(0, min(more_h, more_w)))
    x, value = torch.randn(2, h, w, 3), torch.randn(3)
    out = pad_with(x, h + more_h, w + more_w, value, offset)
    expected = value.expand(2, h + more_h, w + more_w, 3).clone()
    expected[:, offset:offset + h, offset:offset + w] = x
    assert torch.equal(out, expected)


def test_pad_with_no_value_pads_zeros_at_the_offset():
    x = torch.ones(1, 2, 3, 1)
    out = pad_with(x, 4, 6, offset=2)
    assert out.shape == (1, 4, 6, 1)
    assert out.sum() == 6 and out[0, 2:, 2:5].sum() == 6


def test_pad_with_returns_the_map_itself_if_it_has_the_size():
    x = torch.randn(1, 4, 4, 2)
    assert pad_with(x, 4, 4, torch.zeros(2)) is x


def test_pad_with_gradients():
    """The value's gradient is the sum over the padded cells; that of the map is unchanged."""
    x = torch.randn(2, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    value = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, value: pad_with(x, 5, 4, value, 1), (x, value))
    pad_with(x, 5, 4, value, 1).sum().backward()
    assert torch.equal(value.grad, torch.full((4,), 2.0 * (5 * 4 - 3 * 2), dtype=torch.float64))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_pad_with_keeps_the_dtype_of_the_map(dtype):
    """Under autocast the map is in half precision and the bias in float32."""
    assert pad_with(torch.zeros(1, 2, 2, 3, dtype=dtype), 3, 3, torch.ones(3)).dtype == dtype
