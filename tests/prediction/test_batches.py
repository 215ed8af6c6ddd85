"""Batches hold inputs of one shape, keep the order, and collect a bounded number of inputs."""

import itertools
import threading

import pytest

from vitdet_plugin.runtime.batches import in_batches
from vitdet_plugin.runtime.prefetch import IDLE, Idle, prefetch


def run(items, size=3):
    batches = []

    def predict(batch):
        batches.append(list(batch))
        return [f'<{item}>' for item in batch]

    return list(in_batches(items, lambda item: None if item == 'bad' else item[0], lambda key: size, predict)), batches


@pytest.mark.parametrize('text', ['a1 a2 a3 a4', 'a1 b1 a2 b2 a3 b3 a4', 'bad', 'a1 bad b1 bad', '', 'a1 bad a2 a3'])
def test_results_are_in_order(text):
    items = text.split()
    results, batches = run(items)
    assert results == [(item, None if item == 'bad' else f'<{item}>') for item in items]
    assert all(len({item[0] for item in batch}) == 1 and len(batch) <= 3 for batch in batches)


def test_a_rare_shape_does_not_hold_back_the_others():
    items = iter(['rare', *(f'a{number}' for number in range(100))])
    taken = []
    results = in_batches((taken.append(item) or item for item in items), lambda item: item[0], lambda key: 3,
                         lambda batch: batch)
    assert next(results) == ('rare', 'rare') and len(taken) <= 12
    assert [item for item, _ in results] == [f'a{number}' for number in range(100)]


def test_what_was_collected_is_predicted_while_no_input_comes():
    results, batches = run(['a1', 'a2', IDLE, 'a3'])
    assert batches == [['a1', 'a2'], ['a3']] and len(results) == 3


def test_reading_ahead_keeps_order_errors_and_a_bound():
    taken = []

    def items():
        for number in range(5):
            taken.append(number)
            yield number
        raise ValueError('at the end')

    found = []
    with pytest.raises(ValueError, match='at the end'):
        found.extend(item for item in prefetch(items(), 2) if not isinstance(item, Idle))
    endless = prefetch((taken.append(number) or number for number in itertools.count()), 2)
    assert taken == [0, 1, 2, 3, 4] and next(endless) == 0
    endless.close()
    for thread in threading.enumerate():
        if thread.name == 'vitdet-prefetch':
            thread.join(30)
            assert not thread.is_alive()
    assert len(taken) < 5 + 6
