"""The length of training that ``train_cfg`` sets, in epochs or in iterations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vitdet_plugin.config.registry import type_name

_COUNTS_EPOCHS = {'EpochBasedTrainLoop': True, 'ResumableEpochLoop': True,
                  'IterBasedTrainLoop': False, 'ResumableIterLoop': False}


def counts_epochs(train_cfg: Mapping) -> bool | None:
    """Return whether a training loop counts epochs (True) or iterations (False); None for a custom loop.

    Without ``type`` it is ``by_epoch``, and without that whether there is ``max_epochs``.
    """
    if name := type_name(train_cfg):
        return _COUNTS_EPOCHS.get(name)
    by_epoch = train_cfg.get('by_epoch')
    return 'max_epochs' in train_cfg if by_epoch is None else bool(by_epoch)


def train_length(train_cfg: Mapping) -> tuple[Any, bool | None]:
    """Return the length of training, and whether it is in epochs; (None, None) for a custom loop."""
    by_epoch = counts_epochs(train_cfg)
    return None if by_epoch is None else train_cfg.get('max_epochs' if by_epoch else 'max_iters'), by_epoch
