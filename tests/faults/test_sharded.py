"""FSDP: a run stopped in the middle of an epoch and resumed is bitwise equal to an uninterrupted one."""

import os
import subprocess
import sys

import pytest

from tests.end_to_end.tiny_set import ROOT, environment, free_port
from tests.faults.rig import EPOCHS, SHARDED, assert_same_run, steps_of, train_here, write_config


def test_one_sharded_rank(tiny_set, tmp_path, monkeypatch, capsys):
    for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1',
                            MASTER_PORT='0').items():
        monkeypatch.setenv(name, value)
    rest = EPOCHS.format(2) + SHARDED
    train_here(write_config(tmp_path / 'whole.py', tiny_set, rest), tmp_path / 'whole', validate=False)
    broken = write_config(tmp_path / 'broken.py', tiny_set, rest, (dict(type='SignalHook', step=3),))
    train_here(broken, tmp_path / 'broken', validate=False)
    assert 'stopped by SIGTERM after iteration 3' in capsys.readouterr().out
    assert max(steps_of(tmp_path / 'broken')) == 2
    train_here(broken, tmp_path / 'broken', resume='auto', validate=False)
    assert_same_run(tmp_path / 'whole', tmp_path / 'broken')


@pytest.mark.timeout(900)
@pytest.mark.skipif('VITDET_SOAK' not in os.environ, reason='six training runs on two ranks: make soak')
def test_two_sharded_ranks(tiny_set, tmp_path):
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--master-port',
               str(free_port()), '-m', 'tests.faults.two_ranks', str(tmp_path), str(tiny_set), 'sharded']
    result = subprocess.run(command, env=environment(VITDET_DIST_TIMEOUT='300'), text=True, capture_output=True,
                            timeout=800, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count('stopped by SIGTERM') == 2
    for name in ('epochs', 'steps'):
        assert_same_run(tmp_path / f'{name}_whole', tmp_path / f'{name}_broken', ranks=2)
