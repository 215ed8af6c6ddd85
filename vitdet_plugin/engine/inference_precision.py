"""Type in which a model predicts: what the device computes fast, and why another one is used."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import nn

from vitdet_plugin.compat.cpu_features import has_fast_bf16
from vitdet_plugin.compat.gpu_features import has_gpu_bf16
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.precision import short_name

HALVES = ('auto', 'fp16', 'bf16')  #: values of ``half``
DTYPES = (*HALVES, 'fp32')  #: values of ``dtype``


def asked_dtype(dtype: str | None, half: str | bool | None) -> tuple[str, str]:
    """Return the type that two options ask for, and the name of the option for messages.

    Args:
        dtype: One of :data:`DTYPES`; None for float32.
        half: The older option: one of :data:`HALVES`, True for ``auto``, or None.

    Raises:
        UserError: An unknown value, or two options that contradict each other.
    """
    half = 'auto' if half is True else half or None
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f'--dtype {dtype}: choose from {", ".join(DTYPES)}')
    if half is not None and half not in HALVES:
        raise UserError(f'--half {half}: choose from {", ".join(HALVES)}')
    if dtype is not None and half is not None and dtype != half:
        raise UserError(f'--dtype {dtype} and --half {half} contradict each other; leave out one of them')
    return dtype or half or 'fp32', '--half' if dtype is None else f'--dtype {dtype}'


def inference_dtype(asked: str, device: str, option: str = '--half') -> torch.dtype | None:
    """Return the type to predict in, None for float32. One line says if it is not the one that was asked for.

    Args:
        asked: ``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where the device has instructions for it, otherwise fp16
            on a GPU and float32 on a CPU.
        device: Type of the device, such as ``cpu`` or ``cuda``.
        option: Name of the option, for the message.
    """
    if asked == 'fp32':
        return None
    if device == 'cpu':
        if not has_fast_bf16():
            warn(f'{option}: this processor has no bfloat16 instructions, which would be slower than float32: '
                 'predicting in float32')
            return None
        if asked == 'fp16':
            warn(f'{option.removesuffix(" fp16")} fp16: float16 is very slow on a CPU: predicting in bfloat16')
        return torch.bfloat16
    if device == 'cuda' and asked != 'fp16' and not has_gpu_bf16():
        if asked == 'bf16':
            warn(f'{option}: this GPU has no bfloat16 instructions: predicting in float16')
        return torch.float16
    return torch.float16 if asked == 'fp16' else torch.bfloat16


def name_of(dtype: torch.dtype | None) -> str:
    """Return the short name of a type of :func:`inference_dtype`."""
    return short_name(dtype or torch.float32)


def autocast_to(dtype: torch.dtype | None, device: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which operations run in a type; None changes nothing."""
    return contextlib.nullcontext() if dtype is None else torch.autocast(device, dtype)


def predict_in(model: nn.Module, dtype: torch.dtype | None, device: str) -> None:
    """Make ``test_step`` of a model predict in a type.

    mmengine's loops turn autocast off around it, so the context must be inside.
    """
    step: Any = model.test_step

    def test_step(*args: Any, **kwargs: Any) -> Any:
        with autocast_to(dtype, device):
            return step(*args, **kwargs)
    if dtype is not None:
        model.test_step = test_step
