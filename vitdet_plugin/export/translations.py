"""How operators of torch are written to ONNX files where torch's own translation is missing or slow."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from vitdet_plugin.export.suppression import suppression_translation


def onnx_translations() -> dict[Any, Callable]:
    """Return the ``custom_translation_table`` of ``torch.onnx.export``."""
    return {**suppression_translation(), torch.ops.aten.gelu.default: _gelu()}


def _gelu() -> Callable:
    """Return GELU with the operations in the order that ONNX Runtime fuses: torch multiplies by 0.5 before x."""
    from onnxscript import opset18 as op

    def gelu(x, approximate: str = 'none'):
        def number(value: float) -> Any:
            return op.CastLike(op.Constant(value_float=value), x)

        if approximate == 'tanh':
            cube = op.Mul(x, op.Mul(x, x))
            share = op.Tanh(op.Mul(op.Add(x, op.Mul(cube, number(0.044715))), number(math.sqrt(2 / math.pi))))
        else:
            share = op.Erf(op.Div(x, number(math.sqrt(2))))
        return op.Mul(op.Mul(x, op.Add(share, number(1.0))), number(0.5))

    return gelu
