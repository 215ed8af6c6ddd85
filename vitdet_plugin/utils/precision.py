"""Contexts for computations whose precision does not depend on autocast."""

import contextlib
from typing import Any

import torch


def no_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Turn autocast off for a type of device; 'meta' has no autocast."""
    return contextlib.nullcontext() if device_type == 'meta' else torch.autocast(device_type, enabled=False)
