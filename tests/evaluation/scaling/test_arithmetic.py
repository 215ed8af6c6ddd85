import pytest

from vitdet_plugin.evaluation.scaling import arithmetic
from vitdet_plugin.evaluation.scaling.arithmetic import Line
from vitdet_plugin.evaluation.scaling.cards import CARDS, FABRICS, Card
from vitdet_plugin.evaluation.scaling.ledger import Operation

CARD = Card('card', memory=100.0, half_rate=1000.0, float_rate=100.0, bandwidth=50.0, link=10.0, source='')


def test_line_through_two_batch_sizes():
    line = Line((1, 10.0), (16, 40.0))
    assert [line.at(batch) for batch in (1, 6, 16)] == [10, 20, 40]


def test_state_of_a_training():
    assert arithmetic.state_bytes(10, 8) == dict(weights=40, gradients=32, moments=64, average=40)
    assert arithmetic.replicated_bytes(10, 8, 1000, ranks=8) == 40 + 32 + 64 + 40 + 32 + 1000
    assert arithmetic.replicated_bytes(10, 8, 1000, ranks=1, has_average=False) == 40 + 32 + 64 + 1000
    # 16 bytes of 10 parameters over 4 ranks, two whole blocks and one gradient, the rest whole with its gradient
    assert arithmetic.sharded_bytes(10, 10, 2, 3, 1000, ranks=4) == 160 / 4 + 12 * 2 + 8 * 3 + 1000
    assert arithmetic.update_bytes(10, 8) == 28 * 8 + 12 * 10


def test_slower_of_rate_and_bandwidth():
    operations = [Operation(2000, 50, True, False),  # 2 s of tensor cores, 1 s of memory
                  Operation(0, 500, True, True),  # 10 s of memory
                  Operation(2000, 50, False, True)]  # 20 s outside of the tensor cores
    assert arithmetic.roofline_seconds(operations, CARD) == 2 + 10 + 20


def test_largest_batch_that_fits():
    memory = {1: 50.0, 2: 89.0, 4: 91.0}
    assert arithmetic.largest_batch(memory, CARD) == 2  # 90 % of 100 bytes
    assert arithmetic.largest_batch({1: 95.0}, CARD) == 0


def test_ring():
    assert arithmetic.all_reduce_bytes(100, 1) == 0 and arithmetic.all_reduce_bytes(100, 4) == 150
    assert arithmetic.sharded_traffic(100, 4) == 225
    assert arithmetic.all_reduce_seconds(100, 8, CARD, '1 x 200 Gb/s') == 175 / 10
    h100, size = CARDS[2], 4e9
    sent = 2 * 15 / 16 * size
    assert arithmetic.all_reduce_seconds(size, 16, h100, '1 x 200 Gb/s') == sent / 25e9
    assert arithmetic.all_reduce_seconds(size, 16, h100, '8 x 400 Gb/s') == sent / 400e9
    assert max(FABRICS.values()) == 400e9 < h100.link  # one adapter for each GPU


@pytest.mark.parametrize('card', CARDS, ids=lambda card: card.name)
def test_datasheets_are_in_base_units(card):
    assert 1e13 < card.float_rate < card.half_rate < 1e15 and 1e12 < card.bandwidth < 1e13 and 3e10 < card.memory < 1e11
