"""Mixed precision of a training run: where it is configured, and which dtype the device can use."""

import copy
from typing import Any

from mmengine.config import Config

from vitdet_plugin.compat.cpu_features import has_fast_bf16
from vitdet_plugin.compat.gpu_features import has_gpu_bf16
from vitdet_plugin.config.registry import type_name
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.precision import short_name

_WRAPPERS = ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper')


def choose_dtype(asked: str, device: str, is_sharded: bool = False) -> tuple[str, str]:
    """Return the dtype for mixed precision on a device, and the reason if it is not the one that was asked for.

    On a CPU, float16 takes many times as long as float32 and has no benefit. bfloat16 is used if the processor has
    instructions for it, otherwise float32, which is then faster.

    Args:
        asked: ``fp16``, ``bf16``, or ``auto``: fp16 on a GPU without bfloat16 instructions, bf16 elsewhere and with a
            strategy.
        device: Type of the device, such as ``cpu`` or ``cuda``.
        is_sharded: Whether the config has a strategy (FSDP).

    Returns:
        ``fp16``, ``bf16`` or ``fp32``, and a phrase that is empty if the request is met.
    """
    if device != 'cpu':
        automatic = 'fp16' if device == 'cuda' and not is_sharded and not has_gpu_bf16() else 'bf16'
        return automatic if asked == 'auto' else asked, ''
    if not has_fast_bf16():
        return 'fp32', ('no GPU is available, and this processor has no bfloat16 instructions, so that mixed precision '
                        'would be slower than float32: training in float32')
    return 'bf16', ('no GPU is available, and float16 is very slow on a CPU: training in bfloat16'
                    if asked == 'fp16' else '')


def apply_precision(cfg: Config, amp: str | None) -> None:
    """Configure mixed precision in ``cfg.optim_wrapper``; constructor, groups and gradient clipping are kept.

    The request is that of ``--amp``, of ``fp16 = dict(loss_scale=…)`` as in mmdet 2, or of the optimizer wrapper in the
    config. If the device cannot use it well, one line says what is used instead.

    Args:
        cfg: Changed in place.
        amp: ``fp16``, ``bf16``, ``auto``, or None.

    Raises:
        UserError: Unknown dtype, or an optimizer wrapper that cannot be replaced.
    """
    wrapper = cfg.get('optim_wrapper')
    old_key = cfg.pop('fp16', None)
    if wrapper is None:
        if amp:
            raise UserError(f'--amp: {cfg.filename} has no optim_wrapper; add one')
        return
    name = type_name(wrapper) or 'OptimWrapper'
    if amp:
        source, asked = f'--amp {amp}'.removesuffix(' auto'), amp
    elif old_key is not None and old_key is not False:
        source, asked = f'fp16={_plain(old_key)}', 'fp16'
        wrapper.loss_scale = _loss_scale(old_key)
    elif name in _WRAPPERS[1:]:
        dtype = wrapper.get('dtype', 'bf16' if name == 'AutocastOptimWrapper' else None)
        source, asked = f'optim_wrapper.type={name}', 'fp16' if dtype is None else short_name(dtype)
    else:
        return
    if asked not in ('auto', 'fp16', 'bf16'):
        raise UserError(f'{source if amp else f"optim_wrapper.dtype={dtype}"}: choose from auto, fp16, bf16')
    if name not in _WRAPPERS:
        raise UserError(f'{source}: optim_wrapper.type={name} cannot be replaced; configure mixed precision in it')
    device = training_device()
    dtype, reason = choose_dtype(asked, device, cfg.get('strategy') is not None)
    if reason:
        warn(f'{source}: {reason}')
    if amp or old_key or device == 'cpu' or asked == 'auto':  # mmengine's wrappers do not accept auto
        _set_wrapper(cfg, wrapper, dtype)


def _set_wrapper(cfg: Config, wrapper: Any, dtype: str) -> None:
    if dtype == 'fp32':
        wrapper.type = 'OptimWrapper'
        for key in ('dtype', 'loss_scale', 'use_fsdp'):
            wrapper.pop(key, None)
    else:
        wrapper.type, wrapper.dtype = 'AutocastOptimWrapper', dtype
        wrapper.pop('use_fsdp', None)


def training_device() -> str:
    """Type of the device on which mmengine's Runner trains."""
    import torch
    from mmengine.device import get_device
    device = get_device()
    return 'cuda' if torch.cuda.is_available() else 'cpu' if device == 'cuda' else device


def _loss_scale(old_key: Any) -> Any:
    scale = old_key.get('loss_scale', 'dynamic') if isinstance(old_key, dict) else 'dynamic'
    if isinstance(scale, dict):
        scale = copy.deepcopy(dict(scale))
        scale.pop('mode', None)
    return scale


def _plain(value: Any) -> Any:
    return value.to_dict() if hasattr(value, 'to_dict') else value
