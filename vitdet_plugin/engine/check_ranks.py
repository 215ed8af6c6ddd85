"""Check that all ranks train with the same settings: after the first step nothing would make their weights equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.dist import all_gather_object, is_distributed

from vitdet_plugin.errors import UserError

_SECTIONS = ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'randomness')
_OF_FIRST_RANK = ('init_cfg', 'pretrained')  # its initial weights are those of all ranks
_MOST = 3  # settings in the message


def check_same_settings(cfg: Config) -> None:
    """Compare model, optimizer, schedule, loop and seed of all ranks; paths of data may differ from node to node.

    Raises:
        UserError: They differ, on every rank with the same line.
    """
    if not is_distributed():
        return
    everywhere = all_gather_object({key: value for section in _SECTIONS for key, value in _leaves(
        cfg.get(section), section)})
    for rank, settings in enumerate(everywhere):
        keys = sorted(key for key in {*everywhere[0], *settings} if everywhere[0].get(key) != settings.get(key))
        if keys:
            lines = [f'{key}={everywhere[0].get(key)} on rank 0 and {settings.get(key)} on rank {rank}'
                     for key in keys[:_MOST]]
            more = f' and {len(keys) - _MOST} more' if len(keys) > _MOST else ''
            raise UserError(f'{"; ".join(lines)}{more}: start all ranks with the same config and arguments')


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, (dict, list, tuple)):
        for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
            if name not in _OF_FIRST_RANK:
                yield from _leaves(entry, f'{key}.{name}')
    elif isinstance(value, (bool, int, float, str)):
        yield key, repr(value)
    elif value is not None:  # the text of other objects may contain their address
        yield key, getattr(value, '__qualname__', type(value).__qualname__)
