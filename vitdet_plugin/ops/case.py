"""The properties of a call from its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.ops.dispatch import Case


def is_exporting() -> bool:
    """Whether a graph for ONNX or ``torch.export`` is being traced."""
    return bool(torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting())


def case_of(tensor: Tensor, **options: Any) -> Case:
    """Return the case of a call with ``tensor`` as its main argument; ``options`` are those of the operator."""
    return Case(tensor.device.type, tensor.dtype, is_exporting(), options=options)
