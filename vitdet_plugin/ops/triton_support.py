"""What the Triton kernels of all operators share: availability, precision, launches. Imports no Triton.

An operator's kernels are in its ``triton_kernels.py``, which imports Triton and is itself imported at the first call;
its ``triton.py`` registers them with :mod:`torch.library` and has the ``BACKEND``. With ``TRITON_INTERPRET=1`` the
kernels run on the CPU, slowly, for tests.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Case

OLDEST = (3, 2)  #: version of Triton
OLDEST_GPU = (8, 0)  #: compute capability of an NVIDIA GPU
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OPT_OUT = 'VITDET_OPS_TRITON'  #: if 0, no Triton kernel is used
_DISTRIBUTIONS = ('triton', 'pytorch-triton', 'pytorch-triton-rocm', 'triton-rocm', 'triton-windows')
_YES = ('1', 'true', 'on', 'yes', 'y')

#: Whether Triton's interpreter runs the kernels. Triton reads the variable when it is imported.
INTERPRETED = os.environ.get('TRITON_INTERPRET', '').lower() in _YES
_CURRENT: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
_gpu_reasons: dict[int, str | None] = {}  # by GPU, as asking PyTorch takes longer than the rest of the choice


def _why_missing() -> str | None:
    """Return why Triton cannot be used in this process, or None."""
    if os.environ.get(OPT_OUT, '1').lower() in ('0', 'off', 'no', 'false'):
        return f'{OPT_OUT}={os.environ[OPT_OUT]} is set'
    if importlib.util.find_spec('triton') is None:
        return 'Triton is not installed (pip install triton)'
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError, ValueError):
            version = importlib.metadata.version(name)
            if tuple(int(part) for part in version.split('.')[:2]) < OLDEST:
                return f'Triton {version} is too old; {".".join(map(str, OLDEST))} or newer is required'
            break
    return None


#: Why Triton cannot be used in this process, or None. Read once, so that graphs can be captured.
MISSING = _why_missing()


def why_not(case: Case) -> str | None:
    """Return why no Triton kernel can serve a call, or None; operators add their own conditions."""
    if MISSING:
        return MISSING
    if case.device != 'cuda' and not (INTERPRETED and case.device == 'cpu'):
        return f'serves tensors on a GPU, not on {case.device}'
    if case.dtype is not None and case.dtype not in DTYPES:
        return f'does not serve {case.dtype}'
    if case.transformed:
        return NOT_TRANSFORMED
    if case.device == 'cuda' and not INTERPRETED and (reason := _why_not_gpu()):
        return reason
    if case.named:
        return None
    if INTERPRETED:
        return 'TRITON_INTERPRET is set, which is slow; used only by name'
    return 'cannot be exported to ONNX' if case.exporting else None


def _why_not_gpu() -> str | None:
    if torch.compiler.is_compiling():  # whose graph would be compiled again after a change of the dictionary
        return _why_too_old()
    index = torch.cuda.current_device() if torch.cuda.is_initialized() else 0
    if index not in _gpu_reasons:
        _gpu_reasons[index] = _why_too_old()
    return _gpu_reasons[index]


def _why_too_old() -> str | None:
    if torch.version.hip is not None or not torch.cuda.is_available():
        return None
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    if (properties.major, properties.minor) < OLDEST_GPU:
        return (f'requires compute capability {OLDEST_GPU[0]}.{OLDEST_GPU[1]}; this GPU has '
                f'{properties.major}.{properties.minor}')
    return None


def to_widest(*args: Any) -> list[Any]:
    """Convert all tensors among the arguments to the widest of their dtypes."""
    tensors = [arg for arg in args if isinstance(arg, Tensor)]
    widest = tensors[0].dtype
    for tensor in tensors[1:]:
        if tensor.dtype != widest:
            widest = torch.promote_types(widest, tensor.dtype)
    return [arg.to(widest) if isinstance(arg, Tensor) and arg.dtype != widest else arg for arg in args]


def dot_options(dtype: torch.dtype) -> dict[str, Any]:
    """Return the constants of a kernel's matrix products.

    ``PRECISION``: how float32 is multiplied, as PyTorch does: with TF32 only where the user permits it. ``UPCAST``:
    whether operands are converted to float32, because the interpreter cannot multiply bfloat16.
    """
    precision = 'ieee'
    if dtype == torch.float32:
        with contextlib.suppress(RuntimeError):  # PyTorch's old and new settings were mixed
            precision = 'ieee' if torch.get_float32_matmul_precision() == 'highest' else 'tf32'
    return dict(PRECISION=precision, UPCAST=INTERPRETED and dtype == torch.bfloat16)


def next_power_of_2(number: int, least: int = 16) -> int:
    """Return the smallest power of 2 that is at least ``number`` and ``least``; matrix products require 16."""
    return max(least, 1 << (number - 1).bit_length())


def with_unit_stride(tensor: Tensor) -> Tensor:
    """Return the tensor, or a copy if its last dimension is not contiguous."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def on_device(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Make the tensor's GPU the current one, on which Triton launches."""
    if not tensor.is_cuda or tensor.get_device() == torch.cuda.current_device():
        return _CURRENT
    return torch.cuda.device(tensor.device)


def deterministic() -> bool:
    """Whether results must not depend on the order of atomic operations."""
    return torch.are_deterministic_algorithms_enabled()


def fixed_point_scale(bound: Tensor) -> Tensor:
    """Return the factor that converts floating-point terms to 64-bit integers, whose sums depend on no order.

    Args:
        bound: scalar, at least the absolute value of every term.

    Returns:
        float32 scalar, a power of 2, such that a term has up to 40 bits; 2^22 terms can be added. NaN if ``bound`` is
        not finite, so that the sums divided by it are NaN as well.
    """
    bound = bound.float()
    exponent = 40 - torch.ceil(torch.log2(bound.clamp_min(2.0 ** -80)))
    return torch.where(torch.isfinite(bound), torch.exp2(exponent), torch.nan)
