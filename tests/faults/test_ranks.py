"""Two ranks with gloo: exact resuming, a killed rank, a hanging rank, and a NaN loss on one rank."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.end_to_end.tiny_set import ROOT, environment, free_port
from tests.faults.one_step import step
from tests.faults.rig import EPOCHS, assert_equal, assert_same_run, steps_of, write_config

pytestmark = pytest.mark.timeout(1500)  # one torchrun with seven training runs
TRAIN = ROOT / 'tools' / 'train.py'


@pytest.fixture(scope='module')
def runs(tiny_set, tmp_path_factory):
    """Return the work directories and the output of tests/faults/two_ranks.py, restarted once by torchrun."""
    folder = tmp_path_factory.mktemp('ranks')
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc-per-node', '2', '--max-restarts', '2',
               '--master-port', str(free_port()), '-m', 'tests.faults.two_ranks', str(folder), str(tiny_set)]
    result = subprocess.run(command, env=environment(VITDET_DIST_TIMEOUT='300'), text=True, capture_output=True,
                            timeout=1200, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


def test_stopped_and_resumed_with_accumulated_gradients(runs):
    folder, output = runs
    assert output.count('stopped by SIGTERM') == 1  # sent to rank 1, printed by rank 0
    assert_same_run(folder / 'steps_whole', folder / 'steps_broken', ranks=2)
    ranks = [steps_of(folder / 'steps_whole', rank) for rank in (0, 1)]
    assert all(ranks[0][step][4] != ranks[1][step][4] for step in ranks[0])  # different random numbers on each rank


def test_resumed_between_two_optimizer_steps(runs):
    """The checkpoint contains the accumulated gradients of both ranks."""
    whole, between = (runs[0] / name for name in ('steps_whole', 'steps_between'))
    for rank in (0, 1):
        expected = steps_of(whole, rank)
        assert steps_of(between, rank) == {step: expected[step] for step in range(3, 7)}
    saved = [torch.load(each / 'iter_7.pth', weights_only=False) for each in (whole, between)]
    assert torch.load(whole / 'iter_3.pth', weights_only=False)['gradients']
    for key in ('state_dict', 'optimizer', 'ema_state_dict'):
        assert_equal(saved[0][key], saved[1][key], key)


def test_two_ranks_equal_one_rank_with_accumulated_batches(runs):
    expected = step([0, 1], is_distributed=False)
    alone = step([0], is_distributed=False)
    assert any((expected[name] - alone[name]).abs().max() > 1e-4 for name in expected)  # the second batch has an effect
    for rank in (0, 1):
        found = torch.load(runs[0] / f'one_step_rank{rank}.pth')
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-6, msg=name)


def test_a_killed_rank_is_restarted_and_the_run_ends_equal(runs):
    folder, output = runs
    assert 'restart 1 by torchrun' in output and f'resuming from {folder}/killed/epoch_1.pth' in output
    assert_same_run(folder / 'epochs_whole', folder / 'killed', ranks=2)


def test_nan_on_one_rank_stops_all_ranks_and_reports_its_images(runs):
    folder, output = runs
    assert output.count('the loss at iteration 2 is not finite') == 2
    ranks = json.loads((folder / 'nan' / 'nonfinite_iter_2.json').read_text())['ranks']
    assert [each['rank'] for each in ranks] == [0, 1]
    assert 'nan' not in ranks[0]['losses'].values() and ranks[1]['losses']['loss'] == 'nan'


@pytest.mark.skipif('VITDET_SOAK' not in os.environ, reason='waits for a timeout: make soak')
def test_a_hanging_rank_ends_the_others_with_an_error(tiny_set, tmp_path):
    hooks = (dict(type='SignalHook', step=1, number=int(signal.SIGSTOP), rank=1),)
    config = write_config(tmp_path / 'c.py', tiny_set, EPOCHS.format(1), hooks)
    port = str(free_port())
    first, stopped = [subprocess.Popen(
        [sys.executable, str(TRAIN), str(config), '--work-dir', str(tmp_path / 'w'), '--skip-preflight'], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                        MASTER_PORT=port, VITDET_DIST_TIMEOUT='60')) for rank in (0, 1)]
    try:
        while not (tmp_path / 'w' / 'signalled').exists() and first.poll() is None:
            time.sleep(0.2)
        begin = time.monotonic()
        _, errors = first.communicate(timeout=240)
        assert time.monotonic() - begin < 180
        assert first.returncode == 2
        (line,) = [line for line in errors.splitlines() if line.startswith('error:')]
        assert 'rank 0' in line and 'VITDET_DIST_TIMEOUT' in line
        assert 'Traceback' not in errors
    finally:
        stopped.kill()
        stopped.communicate()
