"""Loads the compiled operators of this package. Importing this never fails."""

from __future__ import annotations

from vitdet_plugin.ops.dispatch import NOT_TRANSFORMED, Case
from vitdet_plugin.ops.library import OPS, Library

LIBRARY = Library('ops', 'vitdet_plugin.ops', OPS)
#: kind -> why it is not loaded; None if it is
STATUS = LIBRARY.load()


def why_not(case: Case) -> str | None:
    """Return why a compiled CPU kernel without conditions of its own cannot serve a call, or None."""
    if reason := STATUS['cpu']:
        return reason
    if case.device != 'cpu':
        return f'serves tensors on the CPU, not on {case.device}'
    if case.transformed:
        return NOT_TRANSFORMED
    return 'cannot be exported to ONNX' if case.exporting and not case.named else None
