"""Two ranks on gloo: exact resume, a rank that is killed, a loss that is no number on one rank only."""

import subprocess
import sys

import pytest

from tests.end_to_end.tiny_set import environment, free_port
from tests.faults.rig import assert_same_run, steps_of
from tests.faults.two_ranks import CASES


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
