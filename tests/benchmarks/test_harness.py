import functools
import json
import os
import time

import numpy as np
import pytest
import torch

from benchmarks import harness
from benchmarks.harness import Row, Timing, compare, interleave, largest_difference, left_out, peak_extra_memory


def _sleep_and_return(seconds, value):
    def step():
        time.sleep(seconds)
        return value
    return step


def test_peak_extra_memory_is_what_each_step_allocates():
    sizes = 128, 64, 128  # MiB; memory that an earlier step has freed counts again
    found = peak_extra_memory(*(functools.partial(functools.partial, np.ones, size * 2**17) for size in sizes))
    for size, measured in zip(sizes, found, strict=True):
        assert 0.8 * size <= measured / 2**20 <= size + 64


def test_memory_of_building_is_not_counted():
    build = functools.partial(eval, '(sum([0] * 2**23), lambda: 1.0)[1]')  # 64 MiB, freed again
    assert peak_extra_memory(build)[0] < 48 * 2**20


def test_a_process_that_died_is_reported_and_the_next_row_has_a_new_one():
    with pytest.raises(RuntimeError, match='died'):
        peak_extra_memory(functools.partial(os._exit, 3))
    assert len(peak_extra_memory(functools.partial(functools.partial, float))) == 1


def test_interleave_alternates_which_side_goes_first():
    calls = []
    _, results = interleave(lambda: calls.append('a') or 1, lambda: calls.append('b') or 2, repeats=3)
    assert ''.join(calls) == 'ab' 'abbaab'  # the first pair warms up
    assert results == [1, 2]


def test_ratio_is_reference_over_ours():
    timing, _ = interleave(_sleep_and_return(0.01, 0), _sleep_and_return(0.05, 0), repeats=3)
    assert timing.ratio > 2
    assert timing.reference['wall'] > timing.ours['wall'] >= 0.01


def test_both_clocks_are_read_and_cpu_time_does_not_count_sleep():
    timing, _ = interleave(_sleep_and_return(0.05, 0), _sleep_and_return(0.05, 0), repeats=1)
    assert timing.ours['wall'] >= 0.05 > timing.ours['cpu'] + 0.01


def test_goals_apply_to_the_chosen_clock():
    timing = Timing({'wall': 1.0, 'cpu': 1.0}, {'wall': 2.0, 'cpu': 3.0}, {'wall': 2.0, 'cpu': 3.0},
                    {'wall': 0.2, 'cpu': 0.1}, 5)
    assert (timing.ratio, timing.is_noisy) == (2.0, True)
    assert str(timing) == '1.00 s against 2.00 s, 5 pairs, noisy'
    harness.use_clock('cpu')
    try:
        assert (timing.ratio, timing.is_noisy) == (3.0, False)
    finally:
        harness.use_clock('wall')


@pytest.mark.parametrize(('pair_seconds', 'pairs'), [(0.001, 20), (2.0, 10), (4.0, 5), (11.0, 2), (100.0, 2)])
def test_long_steps_are_repeated_less_often(monkeypatch, pair_seconds, pairs):
    now = [0.0]
    monkeypatch.setattr(harness, 'CLOCKS', {'wall': lambda: now[0], 'cpu': lambda: now[0]})

    calls = []

    def step():
        calls.append(1)
        now[0] += pair_seconds / 2
    assert interleave(step, step, repeats=20)[0].pairs == pairs
    assert len(calls) == 2 * (pairs if pair_seconds >= 10 else pairs + 1)  # a long first pair counts


@pytest.mark.parametrize(('ratios', 'spread'), [([2.0], 0.0), ([1.0, 2.0], 2 / 3), ([1.0, 2.0, 2.0, 2.0, 9.0], 0.0),
                                                ([1.0, 1.8, 2.0, 2.4, 3.0], 0.3)])
def test_spread_is_that_of_the_middle_half_of_the_ratios(monkeypatch, ratios, spread):
    now = [0.0]
    monkeypatch.setattr(harness, 'CLOCKS', {'wall': lambda: now[0], 'cpu': lambda: 0.0})
    durations = iter([1.0, *ratios])

    def ours():
        now[0] += 1.0

    def reference():
        now[0] += next(durations)
    assert interleave(ours, reference, repeats=len(ratios))[0].spread == pytest.approx(spread)


def test_a_row_as_a_dict_has_the_times_of_both_clocks():
    ours, reference = functools.partial(_sleep_and_return, 0.01, 1.0), functools.partial(_sleep_and_return, 0.02, 1.0)
    values = compare('p', 'r', ours, reference, tolerance=0, repeats=2, memory=False).as_dict()
    assert values['wall_reference'] >= 0.02 > 0.01 > values['cpu_ours']
    assert values['pairs'] == 2
    assert 'timing' not in values
    json.dumps(Row('p', 'r', 1.0, None, 2.0, difference=np.float64(1.0)).as_dict())


def test_a_row_that_is_left_out_gives_the_reason():
    row = left_out('p', 'r', 'transformers is not installed')
    assert row.note == 'left out: transformers is not installed'
    assert row.as_dict()['pairs'] is None
    assert row.reached is None


@pytest.mark.parametrize(('ours', 'reference', 'expected'), [
    (torch.tensor([1.0, 2.0]), np.array([1.0, 2.5]), 0.5),
    ([torch.zeros(2), {'x': 1.0}], [torch.zeros(2), {'x': 1.25}], 0.25),
    (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0.0),
    (np.array([np.nan, 1.0]), np.array([0.0, 1.0]), float('inf')),
    (torch.zeros(2), torch.zeros(3), float('inf')),
    ([1.0], [1.0, 2.0], float('inf')),
    ({'x': 1.0}, {'y': 1.0}, float('inf')),
    ([], [], 0.0),
])
def test_largest_difference(ours, reference, expected):
    assert largest_difference(ours, reference) == expected


def test_compare_reports_a_wrong_result_as_not_reached():
    ours, reference = functools.partial(_sleep_and_return, 0, 1.0), functools.partial(_sleep_and_return, 0.01, 2.0)
    row = compare('p', 'r', ours, reference, tolerance=0.5, time_goal=1.0, repeats=1, memory=False)
    assert row.difference == 1.0
    assert row.time_ratio > 1
    assert row.memory_ratio is None
    assert row.reached is False


def test_a_row_that_is_not_selected_is_not_built():
    harness.select_rows(['selected'])
    try:
        assert compare('other', 'r', None, None, tolerance=0) is None
    finally:
        harness.select_rows([])


@pytest.mark.parametrize(('ratios', 'goals', 'expected'), [
    ((3.0, 20.0), (2.7, 15.0), True), ((3.0, 10.0), (2.7, 15.0), False), ((2.0, 20.0), (2.7, 15.0), False),
    ((2.0, None), (None, None), None), ((3.0, None), (2.7, None), True), ((3.0, None), (2.7, 15.0), False),
])
def test_reached_needs_every_goal(ratios, goals, expected):
    assert Row('p', 'r', *ratios, *goals).reached is expected
