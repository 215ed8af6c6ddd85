"""Report the backend of DCNv3 for each device; :mod:`vitdet_plugin.ops.dispatch` makes the choice."""

from __future__ import annotations

from typing import Any

from ops_dcnv3.functional import OPERATOR
from ops_dcnv3.native import STATUS
from vitdet_plugin.ops import triton_support


def backend_info() -> dict[str, Any]:
    """Report the backend of each device type, and why the others are not available.

    Returns:
        ``active``: device type -> backend used when none is named; ``cpu``, ``triton``, ``cuda``, ``pytorch``:
        'available', or the reason why not.
    """
    active = {device: OPERATOR.info(device)['backend'] for device in ('cpu', 'cuda')}
    return {'active': active, **{name: unavailable(name) or 'available' for name in OPERATOR.backends}}


def unavailable(backend: str) -> str | None:
    """Return why a backend cannot be used on any device; None if it can."""
    return triton_support.MISSING if backend == 'triton' else STATUS.get(backend)
