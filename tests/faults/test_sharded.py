"""FSDP: a run stopped in the middle of an epoch and resumed is bitwise equal to an uninterrupted one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.forked_ranks import run_forks
from tests.end_to_end.tiny_set import ROOT, environment, free_port
from tests.faults.rig import EPOCHS, SHARDED, assert_same_run, steps_of, train_here, write_config


def train_in_a_process(words):
    config, work_dir, *resume = words
    train_here(Path(config), Path(work_dir), resume=resume[0] if resume else None, validate=False)


def run(*words):
    """Train in a process of its own: DTensor's caches keep the process group of the first training."""
    result = run_forks(train_in_a_process, [str(word) for word in words], ranks=1)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_one_sharded_rank(tiny_set, tmp_path):
    rest = EPOCHS.format(2) + SHARDED
    run(write_config(tmp_path / 'whole.py', tiny_set, rest), tmp_path / 'whole')
    broken = write_config(tmp_path / 'broken.py', tiny_set, rest, (dict(type='SignalHook', step=3),))
    assert 'stopped by SIGTERM after iteration 3' in run(broken, tmp_path / 'broken')
    assert max(steps_of(tmp_path / 'broken')) == 2
    run(broken, tmp_path / 'broken', 'auto')
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
