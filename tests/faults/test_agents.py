"""Two agents of torchrun with one rank each, as on two nodes: SIGTERM to one agent stops both, and both resume."""

import os
import subprocess
import sys

import pytest
import torch.distributed as dist

from tests.end_to_end.tiny_set import ROOT, environment, free_port
from tests.faults.rig import assert_same_run, steps_of
from vitdet_plugin.compat.torchrun_agents import release_agents


def run_agents(*words):
    """Run tests/faults/two_agents.py; returns the status and output of each agent."""
    port = str(free_port())
    agents = [subprocess.Popen(
        [sys.executable, '-m', 'torch.distributed.run', '--nnodes', '2', '--node-rank', str(rank), '--master-addr',
         '127.0.0.1', '--master-port', port, '-m', 'tests.faults.two_agents', *map(str, words)],
        text=True, env=environment(VITDET_DIST_TIMEOUT='200'), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        cwd=ROOT) for rank in (0, 1)]
    try:
        outputs = [agent.communicate(timeout=280)[0] for agent in agents]  # torchrun's agents wait 300 s for each other
    finally:
        for agent in agents:
            agent.terminate()
    return [agent.returncode for agent in agents], outputs


@pytest.mark.skipif('VITDET_SOAK' not in os.environ, reason='starts two nodes of two processes twice: make soak')
@pytest.mark.timeout(600)
def test_sigterm_to_one_agent_stops_both_and_both_resume(tiny_set, tmp_path):
    status, outputs = run_agents(tmp_path, tiny_set, 'stop')
    assert status == [0, 1], outputs  # an agent that receives a signal ends with status 1
    assert outputs[0].count('stopped by SIGTERM after iteration 3; saved ') == 1
    assert 'exit barrier' not in outputs[0]
    assert [max(steps_of(tmp_path / 'broken', rank)) for rank in (0, 1)] == [2, 2]
    assert os.path.basename((tmp_path / 'broken' / 'last_checkpoint').read_text()) == 'iter_3.pth'
    status, outputs = run_agents(tmp_path, tiny_set, 'resume')
    assert status == [0, 0], outputs
    assert f'resuming from {tmp_path}/broken/iter_3.pth' in outputs[0]
    assert_same_run(tmp_path / 'whole', tmp_path / 'broken', ranks=2)


def test_nothing_is_released_without_several_agents():
    release_agents({})
    release_agents(dict(TORCHELASTIC_USE_AGENT_STORE='True', GROUP_WORLD_SIZE='1'))


def test_the_key_that_agents_wait_for():
    """The other end is torch's own barrier, as an agent calls it."""
    api = pytest.importorskip('torch.distributed.elastic.agent.server.api')
    from torch.distributed.elastic.utils.store import barrier
    server = dist.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    release_agents(dict(TORCHELASTIC_USE_AGENT_STORE='True', GROUP_WORLD_SIZE='2', MASTER_ADDR='127.0.0.1',
                        MASTER_PORT=str(server.port), TORCHELASTIC_RUN_ID='job'))
    barrier(dist.PrefixStore('job', server), world_size=2, key_prefix=api._TERMINAL_STATE_SYNC_ID, barrier_timeout=60)
