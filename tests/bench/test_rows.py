"""Statistics of rows, interleaved rounds, steps that fail, and the table."""

import csv

import numpy as np
import pytest

from vitdet_plugin.bench.rows import Row, Seconds, measure
from vitdet_plugin.bench.table import lines, write_csv


def row(name='pytorch', **values):
    return Row(name, 'fp32', 1, 2, (64, 96), **values)


def test_values_of_a_row():
    found = row(times=[Seconds(0.001, value, 0.002) for value in (0.1, 0.2, 0.3, 0.4, 0.5)])
    assert found.milliseconds('model') == pytest.approx(300) and found.milliseconds('total') == pytest.approx(303)
    assert found.images_per_second == pytest.approx(2 / 0.303)
    assert found.p90 == pytest.approx(463)
    assert found.spread == pytest.approx((463 - 143) / 303) and found.is_noisy
    assert not row(times=[Seconds(0, value, 0) for value in (1.0, 1.05, 1.1)]).is_noisy


def test_rows_are_measured_in_turn_and_a_failing_one_has_a_reason():
    order = []

    def step(name):
        def run():
            order.append(name)
            if name == 'bad' and len(order) > 4:
                raise ValueError('first line\nsecond line')
            return Seconds(0.0, 1.0, 0.0)
        return run

    rows = [row(name, step=step(name)) for name in ('a', 'bad')] + [row('none', reason='not installed')]
    done = []
    measure(rows, rounds=2, warmup=1, on_round=done.append)
    assert order == ['a', 'bad', 'bad', 'a', 'a', 'bad'] and done == [1, 2, 3]
    assert [len(each.times) for each in rows] == [2, 0, 0]
    assert [each.reason for each in rows] == ['', 'first line', 'not installed']


def test_the_table_and_the_file_have_every_row(tmp_path):
    rows = [row(times=[Seconds(0.001, 0.1, 0.002)] * 5, accuracy=0.25), row('openvino', reason='not installed'),
            row('onnxruntime', times=[Seconds(0.0, value, 0.0) for value in (1.0, 2.0, 3.0)])]
    shown = lines(rows, 'AP')
    assert shown[0].split()[-2:] == ['images/s', 'AP'] and 'AP' not in lines(rows, None)[0]
    assert shown[1].split() == ['pytorch', 'fp32', '1', '2', '64x96', '1.0', '100.0', '2.0', '103.0', '103.0', '19.42',
                                '0.2500']
    assert shown[2].endswith('not measured: not installed') and 'noisy (spread 80%)' in shown[3]
    write_csv(tmp_path / 'new/a.csv', 'model', rows, 'AP', dict(machine='m', torch='2'))
    with open(tmp_path / 'new/a.csv', newline='') as file:
        found = list(csv.DictReader(file))
    assert [each['backend'] for each in found] == ['pytorch', 'openvino', 'onnxruntime']
    assert [each['noisy'] for each in found] == ['0', '', '1'] and found[0]['machine'] == 'm'
    assert np.isclose(float(found[0]['total_ms']), 103) and found[1]['total_ms'] == ''
    assert found[0]['accuracy'] == '0.25000' and found[1]['reason'] == 'not installed'
    write_csv(tmp_path / 'b.csv', 'model', rows, None, {})
    assert 'accuracy' not in (tmp_path / 'b.csv').read_text()
