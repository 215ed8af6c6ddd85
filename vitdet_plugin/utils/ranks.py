"""Launchers of distributed runs, and the environment variables in which they pass the rank of a process."""

import os

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
RANK_VARIABLES = ('RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK')
TORCHRUN_VARIABLES = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')


def is_first_rank() -> bool:
    """Whether this process is the first rank, by the variables of the launchers."""
    return all(os.environ.get(name, '0') == '0' for name in RANK_VARIABLES)
