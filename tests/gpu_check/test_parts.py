"""The parts of ``vitdet gpu-check`` on the CPU with tiny sizes, and what happens when a part fails.

Triton kernels take part in tests/ops/kernels/test_gpu_check.py.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vitdet_plugin.cli import gpu_check, train
from vitdet_plugin.cli.arguments import parse
from vitdet_plugin.config.names import find_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.gpu_check import operators, parts, training
from vitdet_plugin.gpu_check.operator_cases import BUILD, SHAPES
from vitdet_plugin.gpu_check.results import FAILED, LEFT_OUT, OK, Result, Settings, attempt, format_table
from vitdet_plugin.ops import dispatch

TINY = Settings('cpu', tiny=True, seed=3)


def run(name, settings=TINY):
    return list(parts.run_here(name, settings))


@pytest.mark.parametrize('name', ['environment', 'operator tap_softmax', 'operator mlstm', 'operator outlook_attention',
                                  'backbones', 'time operators', 'time backbones', 'time step'])
def test_a_part_on_the_cpu(name):
    found = run(name)
    assert [result for result in found if result.status == FAILED] == []
    assert any(result.status == OK for result in found)
    assert {result.part for result in found} == {name}
    if name.startswith('time'):
        assert all(result.numbers['ms'] > 0 for result in found if result.status == OK)


def test_every_operator_has_cases_and_a_part():
    assert set(BUILD) == set(SHAPES) == set(dispatch.MODULES)
    assert {f'operator {name}' for name in BUILD} <= set(parts.PARTS)
    assert all(set(sizes) == {'tiny', 'quick', 'full', 'timed'} for sizes in SHAPES.values())


@pytest.mark.parametrize('change', [lambda x: x + 0.5, lambda x: x * float('nan')], ids=['wrong', 'nan'])
def test_a_wrong_backend_is_found(change, monkeypatch):
    operator = dispatch.load_operator('tap_softmax')
    backend = operator.backends['pytorch']
    broken = backend._replace(name='broken', run=lambda *args: change(backend.run(*args)))
    monkeypatch.setattr(operator, 'backends', {'broken': broken, 'pytorch': backend})
    found = {result.name.split(',')[0]: result for result in operators.run(TINY, 'tap_softmax')}
    assert (found['broken'].status, found['pytorch'].status) == (FAILED, OK)
    assert 'relative error above' in found['broken'].detail and 'output' in found['broken'].detail


def test_an_error_is_one_failed_result():
    def fail():
        raise ValueError('first\nsecond')
    assert attempt('check', fail) == Result('check', FAILED, 'ValueError: first second')


def test_goldens_are_left_out_without_a_folder_and_compared_with_one(tmp_path):
    assert [result.status for result in run('goldens')] == [LEFT_OUT]
    (tmp_path / 'case').mkdir()
    (tmp_path / 'case' / 'case.json').write_text('{}')
    found = run('goldens', Settings('cpu', tiny=True, goldens=tmp_path))
    assert [(result.name, result.status) for result in found] == [('case', FAILED)]
    assert 'is not a complete case' in found[0].detail


def test_training_is_left_out_without_the_stack_and_its_commands_are_valid(monkeypatch):
    for name, arguments in training.RUNS.items():
        words = training.train_words(name, [*arguments])
        assert words[0] == 'train'
        args = parse(train.build_parser(), words[1:], optional_values={})
        assert args.work_dir == f'work_dirs/{name}' and args.config == training.CONFIG
    assert Path(find_config(training.CONFIG)).is_file()
    monkeypatch.setattr(training, 'missing_packages', lambda *names: 'mmdet')
    assert [(result.status, result.detail) for result in run('training')] == [
        (LEFT_OUT, 'not installed: mmdet')]


def test_a_training_that_diverges_or_fails_is_found(tmp_path, monkeypatch):
    def imitate(folder, *words):
        log = folder / 'work_dirs' / 'bfloat16' / '1' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('\n'.join(json.dumps(dict(loss=loss)) for loss in losses))
    monkeypatch.setattr(training, 'vitdet', imitate)
    for given, status in (([2.0, 1.0], OK), ([2.0, float('nan')], FAILED), ([1.0, 2.0], FAILED)):
        losses = given
        assert training.train(tmp_path, 'bfloat16', []).status == status


def test_a_part_in_its_own_process():
    found = list(parts.run_part('operator tap_softmax', TINY, 120))
    assert {result.status for result in found} == {OK}


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Replace the process of a part by Python code that gets the path of its results as ``sys.argv[1]``."""
    def replace_by(code):
        start = subprocess.Popen

        def imitate(command, **kwargs):
            return start([sys.executable, '-c', f'import sys, time\n{code}', command[-1]], **kwargs)
        monkeypatch.setattr(subprocess, 'Popen', imitate)
    return replace_by


def test_results_before_a_crash_are_kept(program):
    program("""
open(sys.argv[1], 'w').write('{"name": "first", "status": "ok"}\\n{"name": "sec')
sys.exit('illegal memory access')""")
    found = list(parts.run_part('backbones', TINY, 60))
    assert [result.status for result in found] == [OK, FAILED, FAILED]
    assert found[-1].detail == 'the process ended with 1: illegal memory access'


def test_results_come_while_the_part_runs_and_the_end_of_its_time_is_a_failure(program):
    program("""
with open(sys.argv[1], 'w') as file:
    file.write('{"name": "first", "status": "ok"}\\n{"name": "sec')
    file.flush()
    time.sleep(600)""")
    results = parts.run_part('backbones', TINY, 20)
    assert next(results) == Result('first')
    assert [(result.status, result.detail[:10]) for result in results] == [
        (FAILED, 'incomplete'), (FAILED, 'stopped af')]


def test_parts_are_left_out_at_the_end_of_the_time():
    left = list(parts.run_parts(['backbones', 'training'], TINY, 5))
    assert {result.status for result in left} == {LEFT_OUT} and 'no time left' in left[0].detail
    quick = Settings('cpu', quick=True, tiny=True)
    assert [result.detail for result in parts.run_parts(['goldens'], quick, 99)] == ['not with --quick']


def test_settings_survive_the_way_to_the_process():
    settings = Settings('cuda', True, False, Path('/goldens'), Path('/tmp/a'), 7)
    assert Settings.loads(settings.dumps()) == settings
    assert Settings.loads(TINY.dumps()) == TINY


def test_the_limits_add_up():
    """The parts before the last ones fit into the time that the documentation promises."""
    for quick in (False, True):
        first = [part.seconds[quick] for name, part in parts.PARTS.items() if name.startswith(('env', 'operator'))]
        assert max(first) <= gpu_check.LIMITS[quick] / 3
    assert gpu_check.LIMITS == {False: 480, True: 180}


def test_without_a_gpu_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    assert gpu_check.main([]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith('no GPU is available: PyTorch ')


@pytest.mark.parametrize(('statuses', 'expected'), [([OK, LEFT_OUT], 0), ([OK, FAILED], 1)])
def test_table_json_and_status(statuses, expected, tmp_path, monkeypatch, capsys):
    results = [Result(f'check {i}', status, 'detail', dict(ms=1.5), 'backbones') for i, status in enumerate(statuses)]
    monkeypatch.setattr(parts, 'run_parts', lambda *args: iter(results))
    path = tmp_path / 'new' / 'out.json'
    assert gpu_check.main(['--device', 'cpu', '--json', str(path)]) == expected
    written = json.loads(path.read_text())
    assert [result['status'] for result in written['results']] == statuses
    assert written['results'][0]['numbers'] == {'ms': 1.5} and 'card' in written and 'seed' in written
    out = capsys.readouterr().out
    assert '1 ok' in out.splitlines()[-1] and ('failed:' in out) == bool(expected)


def test_parts_by_name():
    assert gpu_check.select_parts(None) == list(parts.PARTS)
    assert gpu_check.select_parts(['operator']) == [name for name in parts.PARTS if name.startswith('operator ')]
    with pytest.raises(UserError, match="--parts: 'backbone' is unknown .did you mean backbones"):
        gpu_check.select_parts(['backbone'])
    assert format_table([Result('a', part='p'), Result('b', FAILED, 'x', part='p')]).splitlines()[0] == 'p'
