"""Which implementation runs: the compiled kernel of the tensors' device where it is loaded, PyTorch otherwise."""

from __future__ import annotations

import torch
from torch import Tensor

from ops_dcnv3 import native

NAMES = ('cpu', 'cuda', 'pytorch')
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def backend_info() -> dict:
    """Which backend serves which device, and why another does not.

    Returns:
        ``active``: device type -> backend used when none is asked for; ``cpu``, ``cuda``, ``pytorch``: 'available',
        or the reason why not.
    """
    status = {name: unavailable(name) or 'available' for name in NAMES}
    return {'active': {device: choose(None, device) for device in ('cpu', 'cuda')}, **status}


def unavailable(backend: str) -> str | None:
    """Why a backend cannot be used; None if it can."""
    return None if backend == 'pytorch' else native.STATUS[backend]


def choose(backend: str | None, device_type: str) -> str:
    """Name of the backend for tensors of a device.

    Raises:
        ValueError: no such backend, or one for another device. RuntimeError: it is not there.
    """
    if backend is None:
        compiled = device_type in native.STATUS and native.STATUS[device_type] is None
        # ONNX has no such operator; it has what the PyTorch form is made of
        exporting = torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting()
        return device_type if compiled and not exporting else 'pytorch'
    if backend not in NAMES:
        raise ValueError(f'dcnv3: there is no backend {backend!r}; choose one of {", ".join(NAMES)}')
    if backend == 'pytorch':
        return backend
    if backend != device_type:
        raise ValueError(f'dcnv3: the backend {backend!r} does not serve tensors on {device_type}')
    if reason := unavailable(backend):
        raise RuntimeError(f'dcnv3: the backend {backend!r} is not there: {reason}')
    return backend


def types_fit(*tensors: Tensor) -> bool:
    """Whether all have one supported type; under autocast any supported ones will do."""
    if any(tensor.dtype not in _DTYPES for tensor in tensors):
        return False
    return len({tensor.dtype for tensor in tensors}) == 1 or torch.is_autocast_enabled(tensors[0].device.type)


def same_type(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the widest of their types, which is what autocast asks of operators with several inputs."""
    widest = tensors[0].dtype
    for tensor in tensors[1:]:
        widest = torch.promote_types(widest, tensor.dtype)
    return tuple(tensor.to(widest) for tensor in tensors)
