"""Small tensors from the host to the GPU without waiting for it."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def to_device(host: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor of the CPU to ``device``; a GPU copies it in the order of its other work."""
    if device.type != 'cuda':
        return host.to(device)
    return host.pin_memory().to(device, non_blocking=True)


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a tensor of ``values`` (n,), which is made once; it must not be changed."""
    with torch.inference_mode(False):
        return to_device(torch.tensor(values, dtype=dtype), device)
