"""Names of dtypes, and a context for computations whose precision does not depend on autocast."""

import contextlib
from typing import Any

import torch

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}


def short_name(dtype: Any) -> str:
    """Return the name of a dtype in :data:`DTYPES`, from the dtype or any of its names, such as ``'bfloat16'``."""
    return str(dtype).removeprefix('torch.').replace('bfloat', 'bf').replace('float', 'fp')


def no_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    """Turn autocast off for a type of device; 'meta' has no autocast."""
    return contextlib.nullcontext() if device_type == 'meta' else torch.autocast(device_type, enabled=False)
