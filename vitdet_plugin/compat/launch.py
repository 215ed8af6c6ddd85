"""Start distributed runs on CPUs as well as on GPUs, under torchrun, SLURM and OpenMPI.

mmengine selects a CUDA device before it initializes the process group and passes device ids to the model wrapper. Here
the group is gloo where there is no GPU, and nccl with its device set where there is one.
"""

import datetime
import functools
import logging
import os
import re

import torch
import torch.distributed as dist

from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.ranks import LAUNCHERS

TIMEOUT_ENV = 'VITDET_DIST_TIMEOUT'
_DEFAULT_TIMEOUT = 1800.0
_DEFAULT_PORT = '29500'


def init_distributed(launcher: str, timeout: float | None = None, local_rank: int | None = None) -> None:
    """Initialize the process group of this process, before a Runner is built; does nothing if it is initialized.

    Args:
        launcher: 'none', 'pytorch' (torchrun or ``python -m torch.distributed.launch``), 'slurm' or 'mpi' (OpenMPI).
        timeout: Seconds to wait for the other processes, here and in later collectives; by default the value of the
            environment variable VITDET_DIST_TIMEOUT, or 1800.
        local_rank: Value of ``--local-rank``, for launchers that do not set LOCAL_RANK.

    Raises:
        UserError: Unknown launcher, incomplete environment, no such GPU, or a timeout.
    """
    if launcher not in LAUNCHERS:
        raise UserError(f'launcher {launcher!r}: choose one of {", ".join(LAUNCHERS)}')
    if launcher == 'none' or dist.is_initialized():
        return
    if launcher == 'slurm':
        _environment_from_slurm()
    elif launcher == 'mpi':
        _environment_from_openmpi()
    elif local_rank is not None:
        os.environ.setdefault('LOCAL_RANK', str(local_rank))
    rank, world_size, local = (_integer(name, launcher) for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'))
    if rank >= world_size:
        raise UserError(f'launcher {launcher}: RANK={rank} and WORLD_SIZE={world_size}; ranks count from 0, so set '
                        'WORLD_SIZE to the number of all processes')
    _need('MASTER_ADDR', launcher)
    least = 0 if world_size == 1 else 1  # 0: any free port
    if not least <= (port := _integer('MASTER_PORT', launcher)) < 2**16:
        raise UserError(f'launcher {launcher}: MASTER_PORT={port} is not a port; give a number from 1 to 65535')
    backend = 'nccl' if _on_gpu() else 'gloo'
    if backend == 'nccl':
        _set_gpu(local)
    wait = datetime.timedelta(seconds=_timeout(timeout))
    try:
        if _restarts_on_one_node():
            dist.init_process_group(backend, store=_fresh_store(wait), rank=rank, world_size=world_size, timeout=wait)
        else:
            dist.init_process_group(backend, timeout=wait)
    except (dist.DistError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [''])[0]
        if 'EADDRINUSE' in reason or 'address already in use' in reason.lower():
            raise UserError(f'port {os.environ["MASTER_PORT"]} of {os.environ["MASTER_ADDR"]} is in use, by another '
                            'run or an earlier one that has not ended; choose another: --master-port of torchrun, or '
                            'MASTER_PORT') from error
        raise UserError(
            f'rank {rank} of {world_size}: the processes did not connect at {os.environ["MASTER_ADDR"]}:'
            f'{os.environ["MASTER_PORT"]} within {wait.total_seconds():g} s; check that every node was started, with '
            f'the same address and number of processes ({reason})') from error


def _restarts_on_one_node() -> bool:
    """Whether torchrun has restarted the processes of its only node."""
    count, here = os.environ.get('TORCHELASTIC_RESTART_COUNT'), os.environ.get('LOCAL_WORLD_SIZE')
    return count not in (None, '', '0') and here == os.environ.get('WORLD_SIZE')


def _fresh_store(timeout: datetime.timedelta) -> dist.Store:
    """Return torchrun's store with a prefix for this restart.

    With ``--master-port`` torchrun keeps one store over its restarts, so that a process could find the address of a
    process that has ended. Agents of several nodes count restarts separately, but create new stores.
    """
    store, _, _ = next(dist.rendezvous('env://', timeout=timeout))
    store.set_timeout(timeout)
    return dist.PrefixStore(f'restart_{os.environ["TORCHELASTIC_RESTART_COUNT"]}', store)


def model_wrapper_cfg(cfg) -> dict:
    """Return the ``model_wrapper_cfg`` of a Runner for this machine: that of the config, or DDP."""
    wrapper = dict(cfg.get('model_wrapper_cfg') or {})
    wrapper.setdefault('type', 'MMDistributedDataParallel')
    if wrapper['type'] == 'MMDistributedDataParallel':
        wrapper.setdefault('broadcast_buffers', False)
        wrapper.setdefault('find_unused_parameters', cfg.get('find_unused_parameters', False))
        if not _on_gpu():
            wrapper['device_ids'] = None
    return wrapper


_STARTS = {launcher: Patch('mmengine.dist.utils', f'_init_dist_{launcher}', upstream='mmengine 0.10',
                           why='selects a CUDA device, also where there is none')
           for launcher in LAUNCHERS[1:]}
_DDP = Patch('mmengine.model.MMDistributedDataParallel', '__init__', upstream='mmengine 0.10',
             why='receives device ids and SyncBatchNorm layers, which torch refuses on the CPU')


def install() -> None:
    """Patch mmengine so that launching and model wrapping work on the CPU, also for other tools; GPUs as before."""
    for launcher, patch in _STARTS.items():
        patch.install(functools.partial(_without_gpu, launcher=launcher))
    _DDP.install(_without_device_ids)


def _without_gpu(start, launcher: str):
    @functools.wraps(start)
    def wrapped(*args, **kwargs):
        if _on_gpu() or _on_other_accelerator():
            return start(*args, **kwargs)
        timeout = kwargs.get('timeout')
        return init_distributed(launcher, timeout.total_seconds() if timeout is not None else None)

    return wrapped


def _without_device_ids(init):
    @functools.wraps(init)
    def wrapped(self, module, *args, **kwargs):
        if all(parameter.device.type == 'cpu' for parameter in module.parameters()):
            kwargs['device_ids'] = None
            module = _without_sync_bn(module)
        init(self, module, *args, **kwargs)

    return wrapped


def _without_sync_bn(module):
    """Replace SyncBatchNorm layers, which torch supports on GPUs only."""
    from mmengine.logging import print_log
    from mmengine.model import revert_sync_batchnorm

    count = sum(isinstance(each, torch.nn.SyncBatchNorm) for each in module.modules())
    if count:
        print_log(f'{count} SyncBN layers: without GPUs every rank uses the statistics of its own batch',
                  'current', logging.WARNING)
        module = revert_sync_batchnorm(module)
    return module


def _on_gpu() -> bool:
    return torch.cuda.is_available()


def _on_other_accelerator() -> bool:
    from mmengine.device import is_mlu_available, is_musa_available, is_npu_available

    return is_mlu_available() or is_npu_available() or is_musa_available()


def _set_gpu(local_rank: int) -> None:
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UserError(f'local rank {local_rank} needs GPU number {local_rank}, but this machine has {count}: '
                        'start at most one process per GPU, or set CUDA_VISIBLE_DEVICES=-1 to run on the CPU')
    torch.cuda.set_device(local_rank)


def _timeout(given: float | None) -> float:
    text = os.environ.get(TIMEOUT_ENV)
    if given is not None or not text:
        return _DEFAULT_TIMEOUT if given is None else float(given)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if seconds <= 0:
        raise UserError(f'{TIMEOUT_ENV}={text}: give a number of seconds greater than 0')
    return seconds


def _need(name: str, launcher: str) -> str:
    value = os.environ.get(name)
    if not value:
        how = {'pytorch': 'start with torchrun', 'slurm': 'start with srun',
               'mpi': 'start with mpirun'}[launcher]
        raise UserError(f'launcher {launcher}: the environment variable {name} is not set; {how}, or use '
                        '--launcher none for one process')
    return value


def _integer(name: str, launcher: str) -> int:
    value = _need(name, launcher)
    if not value.isdecimal():
        raise UserError(f'launcher {launcher}: {name}={value} is not a number; correct or unset the variable')
    return int(value)


def _export(**values: str) -> None:
    os.environ.update(values)


def _environment_from_slurm() -> None:
    nodes = os.environ.get('SLURM_STEP_NODELIST') or _need('SLURM_NODELIST', 'slurm')
    _export(RANK=_need('SLURM_PROCID', 'slurm'), WORLD_SIZE=_need('SLURM_NTASKS', 'slurm'),
            LOCAL_RANK=_need('SLURM_LOCALID', 'slurm'))
    os.environ.setdefault('MASTER_ADDR', first_host(nodes))
    job = os.environ.get('SLURM_JOB_ID', '')  # two jobs that share a node must not share a port
    os.environ.setdefault('MASTER_PORT', str(20000 + int(job) % 10000) if job.isdecimal() else _DEFAULT_PORT)


def first_host(nodes: str) -> str:
    """Return the first host of a SLURM node list: ``gpu[03-05,9],login1`` gives ``gpu03``."""
    match = re.match(r'([^,\[]+)(?:\[(\w+)[^\]]*\]([^,]*))?', nodes)
    return ''.join(group or '' for group in match.groups()) if match else nodes


def _environment_from_openmpi() -> None:
    size, here = _need('OMPI_COMM_WORLD_SIZE', 'mpi'), os.environ.get('OMPI_COMM_WORLD_LOCAL_SIZE')
    _export(RANK=_need('OMPI_COMM_WORLD_RANK', 'mpi'), WORLD_SIZE=size,
            LOCAL_RANK=_need('OMPI_COMM_WORLD_LOCAL_RANK', 'mpi'))
    if size == here:  # all on one machine
        os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    elif 'MASTER_ADDR' not in os.environ:
        raise UserError('launcher mpi: on several nodes set MASTER_ADDR to the host of rank 0 (mpirun -x MASTER_ADDR)')
    os.environ.setdefault('MASTER_PORT', _DEFAULT_PORT)
