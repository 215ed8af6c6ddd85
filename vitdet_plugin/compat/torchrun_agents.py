"""Let the agents of torchrun on several nodes end together after one of them was stopped."""

import datetime
import os
from collections.abc import Mapping

import torch.distributed as dist

# the key for which an agent waits once its processes have ended (torch 2.6 to 2.14)
_ALL_HAVE_ENDED = 'torchelastic/agent/terminal_state/last_member'


def release_agents(environ: Mapping[str, str] = os.environ) -> None:
    """End the wait of this job's agents for each other; call it on rank 0 when training was stopped by a signal.

    An agent that receives SIGTERM ends with its processes, but does not report this. The agents of the other nodes,
    whose processes have ended too, would wait 300 seconds for it. Affects ``torchrun --nnodes N`` with an address and
    port, whose store the processes share.
    """
    is_shared = environ.get('TORCHELASTIC_USE_AGENT_STORE') == 'True'
    if not is_shared or int(environ.get('GROUP_WORLD_SIZE') or 1) < 2:
        return
    try:
        store = dist.TCPStore(environ['MASTER_ADDR'], int(environ['MASTER_PORT']), is_master=False,
                              wait_for_workers=False, timeout=datetime.timedelta(seconds=3))
        dist.PrefixStore(environ['TORCHELASTIC_RUN_ID'], store).set(_ALL_HAVE_ENDED, 'stopped')
    except (dist.DistError, RuntimeError, OSError):
        pass  # the agent with the store has ended; the others notice that by themselves
