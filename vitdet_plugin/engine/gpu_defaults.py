"""Settings of a training that are faster on a GPU, unless the config sets them."""

from __future__ import annotations

from mmengine.config import Config

from vitdet_plugin.config.registry import type_name

_FUSED = ('AdamW', 'Adam', 'SGD', 'Adagrad')
_MIXED = ('AutocastOptimWrapper', 'AmpOptimWrapper')


def apply_gpu_defaults(cfg: Config, device: str) -> list[str]:
    """Set a fused optimizer, ``channels_last`` weights and pinned memory on a GPU; keep what the config sets.

    The keys are ``optim_wrapper.optimizer.fused``, ``channels_last``, and ``pin_memory`` of ``train_dataloader`` with
    ``non_blocking`` of the data preprocessor.

    Args:
        cfg: Changed in place, after mixed precision was chosen.
        device: Type of the device, such as ``cpu`` or ``cuda``.

    Returns:
        Phrases for the log: what is used.
    """
    if device != 'cuda' or cfg.get('strategy') is not None:
        return ['channels_last weights'] if cfg.get('channels_last') else []
    found = []
    wrapper = cfg.get('optim_wrapper') or {}
    optimizer = wrapper.get('optimizer')
    if isinstance(optimizer, dict) and type_name(optimizer) in _FUSED:
        if not {'foreach', 'capturable', 'differentiable'} & set(optimizer):
            optimizer.setdefault('fused', True)
        if optimizer.get('fused'):
            found.append(f'fused {type_name(optimizer)}')
    if cfg.get('channels_last') is None:  # tensor cores compute convolutions in half precision in this layout
        cfg.channels_last = type_name(wrapper) in _MIXED
    if cfg.channels_last:
        found.append('channels_last weights')
    if cfg.train_dataloader.setdefault('pin_memory', True):
        preprocessor = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor')
        if isinstance(preprocessor, dict):
            preprocessor.setdefault('non_blocking', True)
        found.append('pinned memory')
    return found
