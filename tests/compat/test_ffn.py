"""mmcv's feed-forward network in chunks."""

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN

from vitdet_plugin.utils import row_chunks

ORIGINAL = FFN.forward.__wrapped__


@pytest.fixture
def chunk_sizes(monkeypatch):
    """Sizes of the chunks of at most 8 rows that the network is computed in."""
    monkeypatch.setattr(row_chunks, 'ROWS', 8)
    sizes, linear = [], torch.nn.functional.linear
    monkeypatch.setattr(torch.nn.functional, 'linear', lambda x, *args: sizes.append(x.shape[0]) or linear(x, *args))
    return sizes


@pytest.mark.parametrize('options', [dict(), dict(add_identity=False), dict(layer_scale_init_value=0.3, num_fcs=3)])
def test_chunks_give_the_same(options, chunk_sizes):
    network, x, identity = FFN(4, 6, **options).eval(), torch.randn(3, 7, 4), torch.randn(3, 7, 4)
    with torch.no_grad():
        for more in [(), (identity,)]:
            chunk_sizes.clear()
            found = network(x, *more)
            assert set(chunk_sizes) == {8, 5}
            torch.testing.assert_close(found, ORIGINAL(network, x, *more))
        torch.testing.assert_close(network(x, identity=identity), ORIGINAL(network, x, identity))


def test_other_calls_are_unchanged(chunk_sizes):
    network, x = FFN(4, 6, dropout_layer=dict(type='DropPath', drop_prob=0.5)), torch.randn(3, 7, 4)
    network.eval()(x)  # with gradients
    with torch.no_grad():
        network.train()(x)
        network.eval()(x[:, :2])
        network(x, identity=torch.zeros(4))  # broadcast
        network.double()(x.double())
    assert set(chunk_sizes) == {3}
