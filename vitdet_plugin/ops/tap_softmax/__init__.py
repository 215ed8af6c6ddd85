"""Softmax over short runs of the last dimension, such as the sampling points of deformable operators.

=======  ================  ====================================================================
backend  module            description
=======  ================  ====================================================================
cpu      ``cpu.py``        compiled kernel, several times as fast as PyTorch's on short runs
pytorch  ``reference.py``  ``softmax`` of PyTorch on any device; used for ONNX
=======  ================  ====================================================================
"""

from __future__ import annotations

from torch import Tensor

from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Operator
from vitdet_plugin.ops.tap_softmax import cpu, reference

OPERATOR = Operator('tap_softmax', [cpu.BACKEND, reference.BACKEND])


def tap_softmax(logits: Tensor, taps: int, *, backend: str | None = None) -> Tensor:
    """Softmax over each run of ``taps`` numbers in the last dimension.

    Args:
        logits: (..., runs * taps).
        taps: length of the runs.
        backend: backend to use; None or 'auto' for the compiled kernel where it is available.

    Returns:
        (..., runs * taps) with the dtype of ``logits``; computed in float32 at least.

    Raises:
        BackendError: ``backend`` is unknown or cannot serve this call.
    """
    out: Tensor = OPERATOR.choose(case_of(logits), backend).run(logits, taps)
    return out
