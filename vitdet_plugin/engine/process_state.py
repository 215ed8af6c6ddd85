"""Global state of the process that a run changes: process group, loggers, visualizers, deterministic algorithms."""

import contextlib
from collections.abc import Iterator

import torch
from mmengine.utils import ManagerMixin


def finish() -> None:
    """Destroy the process group, so that the last rank does not warn about it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def restored_process_state() -> Iterator[None]:
    """Restore the global state of the process that a run of mmengine changes, so that another run can follow.

    This state consists of its named loggers, message hubs, visualizers and default scopes (the names have a resolution
    of one second, so that a second run could continue the first one's logs), and the flags set by
    ``deterministic=True``. Visualizers of an earlier run or of mmdet's inferencers are set aside: configs give all of
    them the same name, and an existing one would write into the folder of its own run.
    """
    from mmengine.visualization import Visualizer
    before = {manager: dict(manager._instance_dict) for manager in _subclasses(ManagerMixin)}
    for manager in before:
        if issubclass(manager, Visualizer):
            manager._instance_dict.clear()
    flags = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic,
             torch.backends.cudnn.benchmark)
    try:
        yield
    finally:
        for manager in _subclasses(ManagerMixin):
            earlier = before.get(manager, {})
            for name, instance in list(manager._instance_dict.items()):
                if instance is not earlier.get(name):
                    del manager._instance_dict[name]
                    for handler in getattr(instance, 'handlers', ()):
                        handler.close()
            manager._instance_dict.update({name: instance for name, instance in earlier.items()
                                           if name not in manager._instance_dict})
        torch.use_deterministic_algorithms(flags[0])
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = flags[1:]


def _subclasses(cls: type) -> Iterator[type]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)
