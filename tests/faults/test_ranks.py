"""Two ranks on gloo: exact resume, a rank that is killed, one that hangs, a loss that is no number on one rank only."""

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.end_to_end.tiny_set import ROOT, environment, free_port
from tests.faults.rig import EPOCHS, assert_same_run, steps_of, write_config
from tests.faults.two_ranks import CASES

TRAIN = ROOT / 'tools' / 'train.py'


def torchrun(*words, **options):
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--master-port',
               str(free_port()), *map(str, words)]
    return subprocess.run(command, env=environment(), text=True, capture_output=True, timeout=400, **options)


@pytest.fixture(scope='module')
def runs(tiny_set, tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    result = torchrun('-m', 'tests.faults.two_ranks', folder, tiny_set)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count('stopped by SIGTERM') == len(CASES)  # one rank prints
    return folder


@pytest.mark.parametrize('name', CASES)
def test_two_ranks_resume_exactly(runs, name):
    assert_same_run(runs / f'{name}_whole', runs / f'{name}_broken', ranks=2)
    ranks = [steps_of(runs / f'{name}_whole', rank) for rank in (0, 1)]
    assert all(ranks[0][step][3] != ranks[1][step][3] for step in ranks[0])  # other random numbers on each


def test_a_killed_rank_is_restarted_and_the_run_ends_equal(runs, tiny_set, tmp_path):
    hooks = (dict(type='SignalHook', step=3, number=int(signal.SIGKILL), rank=1),)  # within the second epoch
    config = write_config(tmp_path / 'c.py', tiny_set, hooks=hooks, **CASES['epochs'][0])
    result = torchrun('--max-restarts', '2', TRAIN, config, '--work-dir', tmp_path / 'w', '--skip-preflight')
    assert result.returncode == 0, result.stderr[-3000:]
    assert 'restart 1 by torchrun' in result.stdout and 'resuming from' in result.stdout
    assert_same_run(runs / 'epochs_whole', tmp_path / 'w', ranks=2)


def start_ranks(config, work_dir, **variables):
    port = str(free_port())
    return [subprocess.Popen(
        [sys.executable, str(TRAIN), str(config), '--work-dir', str(work_dir), '--skip-preflight'], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                        MASTER_PORT=port, **variables)) for rank in (0, 1)]


def test_a_rank_that_hangs_ends_the_others_in_time_with_one_line(tiny_set, tmp_path):
    hooks = (dict(type='SignalHook', step=1, number=int(signal.SIGSTOP), rank=1),)
    config = write_config(tmp_path / 'c.py', tiny_set, EPOCHS.format(1), hooks)
    first, stopped = start_ranks(config, tmp_path / 'w', VITDET_DIST_TIMEOUT='30')
    try:
        while not (tmp_path / 'w' / 'signalled').exists() and first.poll() is None:
            time.sleep(0.2)
        begin = time.monotonic()
        _, errors = first.communicate(timeout=240)
        assert time.monotonic() - begin < 120
        assert first.returncode == 2
        (line,) = [line for line in errors.splitlines() if line.startswith('error:')]
        assert 'rank 0' in line and 'VITDET_DIST_TIMEOUT' in line
        assert 'Traceback' not in errors
    finally:
        stopped.kill()
        stopped.communicate()


def test_nan_on_one_rank_stops_all_and_names_its_images(tiny_set, tmp_path):
    hooks = (dict(type='PoisonHook', step=2, rank=1),)
    config = write_config(tmp_path / 'c.py', tiny_set, EPOCHS.format(1), hooks)
    ranks = start_ranks(config, tmp_path / 'w')
    outputs = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, 2], outputs
    evidence = json.loads((tmp_path / 'w' / 'nonfinite_iter_2.json').read_text())
    assert [each['rank'] for each in evidence['ranks']] == [0, 1]
    assert 'nan' not in evidence['ranks'][0]['losses'].values() and evidence['ranks'][1]['losses']['loss'] == 'nan'
    assert all('is not a number' in errors for _, errors in outputs)
