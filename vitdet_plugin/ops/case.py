"""The properties of a call from its tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vitdet_plugin.ops.derivatives import is_transformed
from vitdet_plugin.ops.dispatch import Case
from vitdet_plugin.utils.exporting import is_exporting


def case_of(tensor: Tensor, **options: Any) -> Case:
    """Return the case of a call with ``tensor`` as its main argument; ``options`` are those of the operator."""
    return Case(tensor.device.type, tensor.dtype, is_exporting(), transformed=is_transformed(), options=options)
