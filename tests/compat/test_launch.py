import multiprocessing
import os
import socket
import time

import pytest
import torch
import torch.distributed as dist
from mmengine.model import BaseModel
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

import vitdet_plugin
from vitdet_plugin.compat import launch
from vitdet_plugin.errors import UserError


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)

    def forward(self, x, mode):
        return self.layer(x).sum()


def join_and_step(launcher, local_rank=None):
    """Join the group, wrap a model and back-propagate a gradient equal to the rank; return the rank's state."""
    launch.init_distributed(launcher, local_rank=local_rank)
    model = MODEL_WRAPPERS.build(dict(launch.model_wrapper_cfg({}), module=Net()))
    model(torch.full((1, 2), float(dist.get_rank())), mode='tensor').backward()
    found = dist.get_backend(), dist.get_rank(), int(os.environ['LOCAL_RANK']), model.module.layer.weight.grad.tolist()
    dist.destroy_process_group()
    return found


def join_through_mmengine(launcher):
    """Join as a tool without this plugin does: with mmengine's init_dist (nccl by default) and its DDP arguments."""
    from mmengine.dist import init_dist

    init_dist(launcher, backend='nccl', timeout=60)
    model = MODEL_WRAPPERS.build(dict(type='MMDistributedDataParallel', module=Net(), device_ids=[0]))
    model(torch.ones(1, 2), mode='tensor').backward()
    backend = dist.get_backend()
    dist.destroy_process_group()
    return backend


def step_with_sync_bn():
    """Train a step with SyncBatchNorm; return its mean, and whether its bias receives a gradient."""
    class Normed(Net):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.SyncBatchNorm(2, momentum=1.0), nn.Linear(2, 1))

    launch.init_distributed('pytorch')
    model = MODEL_WRAPPERS.build(dict(type='MMDistributedDataParallel', module=Normed(), broadcast_buffers=False))
    x = dist.get_rank() + torch.arange(4.0).reshape(2, 2)
    model(x, mode='tensor').backward()
    norm = model.module.layer[0]
    dist.destroy_process_group()
    return norm.running_mean.tolist(), norm.bias.grad is not None


def clean(**values):
    """Return the environment of this process without the variables of launchers, plus ``values``."""
    dropped = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_', 'SLURM_', 'OMPI_', 'VITDET_')
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | values


def child(pipe, function, args, env):
    vitdet_plugin.register_all()
    os.environ.clear()
    os.environ.update(env)
    try:
        pipe.send(function(*args))
    except UserError as error:
        pipe.send(str(error))


# Forks of this process could not back-propagate if a test before has started threads of autograd.
PROCESSES = multiprocessing.get_context('forkserver')
PROCESSES.set_forkserver_preload([__name__])


def start(function, *args, **env):
    """Run a function in a new process with this environment; return a pipe that receives its result."""
    ours, theirs = multiprocessing.Pipe()
    PROCESSES.Process(target=child, args=(theirs, function, args, env), daemon=True).start()
    return ours


def result(pipe):
    assert pipe.poll(240), 'no answer from the process'
    return pipe.recv()


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return str(probe.getsockname()[1])


VARIABLES = {
    'pytorch': lambda rank: dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE='2', MASTER_ADDR='127.0.0.1'),
    'slurm': lambda rank: dict(SLURM_PROCID=rank, SLURM_LOCALID=rank, SLURM_NTASKS='2', SLURM_NODELIST='localhost'),
    'mpi': lambda rank: dict(OMPI_COMM_WORLD_RANK=rank, OMPI_COMM_WORLD_LOCAL_RANK=rank, OMPI_COMM_WORLD_SIZE='2',
                             OMPI_COMM_WORLD_LOCAL_SIZE='2'),
}
cpu_only = pytest.mark.skipif(torch.cuda.is_available(), reason='needs nccl and two GPUs here')


@cpu_only
@pytest.mark.parametrize('launcher', VARIABLES)
def test_two_ranks_average_their_gradients(launcher):
    port = free_port()
    pipes = [start(join_and_step, launcher, **clean(**VARIABLES[launcher](rank), MASTER_PORT=port)) for rank in '01']
    assert [result(pipe) for pipe in pipes] == [('gloo', rank, rank, [[0.5, 0.5]]) for rank in (0, 1)]


@cpu_only
def test_batch_norm_is_not_synchronized_without_gpus():
    port = free_port()
    pipes = [start(step_with_sync_bn, **clean(**VARIABLES['pytorch'](rank), MASTER_PORT=port)) for rank in '01']
    assert [result(pipe) for pipe in pipes] == [([1.0, 2.0], True), ([2.0, 3.0], True)]


@cpu_only
def test_local_rank_from_the_command_line():
    env = VARIABLES['pytorch']('0') | dict(WORLD_SIZE='1', MASTER_PORT=free_port())
    env.pop('LOCAL_RANK')
    assert result(start(join_and_step, 'pytorch', 0, **clean(**env))) == ('gloo', 0, 0, [[0.0, 0.0]])


@cpu_only
@pytest.mark.parametrize('launcher', VARIABLES)
def test_mmengine_itself_starts_on_the_cpu(launcher):
    port = free_port()
    pipes = [start(join_through_mmengine, launcher, **clean(**VARIABLES[launcher](rank), MASTER_PORT=port))
             for rank in '01']
    assert [result(pipe) for pipe in pipes] == ['gloo', 'gloo']


@cpu_only
@pytest.mark.parametrize('rank', '01')
def test_a_missing_peer_ends_with_a_timeout(rank):
    env = VARIABLES['pytorch'](rank) | dict(MASTER_PORT=free_port(), VITDET_DIST_TIMEOUT='2')
    begin = time.monotonic()
    message = result(start(join_and_step, 'pytorch', **clean(**env)))
    assert message.startswith(f'rank {rank} of 2: the processes did not connect at 127.0.0.1:')
    assert '\n' not in message
    assert time.monotonic() - begin < 120


@pytest.mark.parametrize(('launcher', 'env', 'message'), [
    ('horovod', {}, "launcher 'horovod': choose one of none, pytorch, slurm, mpi"),
    ('pytorch', {}, 'RANK is not set; start with torchrun'),
    ('pytorch', dict(RANK='0', WORLD_SIZE='two', LOCAL_RANK='0'), 'WORLD_SIZE=two is not a number'),
    ('pytorch', dict(RANK='3', WORLD_SIZE='2', LOCAL_RANK='0'), 'RANK=3 and WORLD_SIZE=2; ranks count from 0'),
    ('pytorch', dict(RANK='0', WORLD_SIZE='0', LOCAL_RANK='0'), 'RANK=0 and WORLD_SIZE=0; ranks count from 0'),
    *(('pytorch', dict(RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_ADDR='a', MASTER_PORT=port),
       f'MASTER_PORT={port} is not a')
      for port in ('99999', 'abc', '0')),
    ('slurm', {}, 'SLURM_NODELIST is not set; start with srun'),
    ('mpi', dict(OMPI_COMM_WORLD_RANK='0', OMPI_COMM_WORLD_SIZE='4', OMPI_COMM_WORLD_LOCAL_SIZE='2',
                 OMPI_COMM_WORLD_LOCAL_RANK='0'), 'on several nodes set MASTER_ADDR'),
    ('pytorch', dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='a', MASTER_PORT='1',
                     VITDET_DIST_TIMEOUT='soon'), 'VITDET_DIST_TIMEOUT=soon: give a number'),
])
def test_invalid_arguments_are_reported(monkeypatch, launcher, env, message):
    monkeypatch.setattr(os, 'environ', clean(**env))
    with pytest.raises(UserError, match=message):
        launch.init_distributed(launcher)


def test_launcher_none_requires_no_environment():
    launch.init_distributed('none')


@pytest.mark.parametrize(('nodes', 'first'), [
    ('localhost', 'localhost'), ('gpu[03-05,9],login1', 'gpu03'), ('a1,b2', 'a1'), ('rack-2-n[7]-ib', 'rack-2-n7-ib')])
def test_first_host_of_a_slurm_list(nodes, first):
    assert launch.first_host(nodes) == first


def test_model_wrapper_keeps_the_settings_of_the_config():
    mine = dict(type='MMFullyShardedDataParallel', use_orig_params=True)
    assert launch.model_wrapper_cfg(dict(model_wrapper_cfg=mine)) == mine
    ddp = launch.model_wrapper_cfg(dict(find_unused_parameters=True))
    assert ddp['type'] == 'MMDistributedDataParallel'
    assert ddp['find_unused_parameters'] is True


def test_a_port_in_use_is_one_line(monkeypatch):
    with socket.socket() as other:
        other.bind(('127.0.0.1', 0))
        other.listen()
        port = str(other.getsockname()[1])
        for name, value in dict(RANK='0', WORLD_SIZE='1', LOCAL_RANK='0', MASTER_ADDR='127.0.0.1',
                                MASTER_PORT=port).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=f'^port {port} of 127.0.0.1 is in use.*--master-port'):
            launch.init_distributed('pytorch', timeout=60)
