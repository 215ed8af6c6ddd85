"""Parts ``operator NAME``: every backend against the formula in float64, forward and backward, in every dtype."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vitdet_plugin.gpu_check.operator_cases import OperatorCase, cases
from vitdet_plugin.gpu_check.results import FAILED, LEFT_OUT, OK, Result, Settings, attempt
from vitdet_plugin.ops.dispatch import Case, Operator, load_operator

#: Relative error, in the norm of each tensor.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 8e-2, torch.float16: 1e-2}
_POISON = 1 << 26  # bytes


def run(settings: Settings, operator: str) -> Iterator[Result]:
    """Yield one result for each backend, case and dtype."""
    found = load_operator(operator)
    for index, case in enumerate(cases(operator, settings)):
        for dtype, tolerance in TOLERANCES.items():
            inputs = case.cast('cpu', dtype)
            tensors = [x.double() for x in inputs]
            cotangent: Tensor | None = None
            expected: list[Tensor] = []
            for name in found.backends:
                label = f'{name}, {case.label}, {str(dtype).removeprefix("torch.")}'
                if reason := why_left_out(found, name, settings, dtype, case, is_first=not index):
                    yield Result(label, LEFT_OUT, reason)
                    continue
                if cotangent is None:
                    reference = list(found.backends)[-1] if operator != 'mlstm' else 'parallel'
                    cotangent = torch.randn(case.call(tensors, reference).shape, dtype=torch.float64).to(dtype).double()
                    expected = _gradients(case, tensors, reference, cotangent)
                yield attempt(label, compare, label, case, [x.to(settings.device) for x in inputs], name, cotangent,
                              expected, tolerance)


def why_left_out(operator: Operator, name: str, settings: Settings, dtype: torch.dtype, case: OperatorCase,
                 is_first: bool) -> str | None:
    """Return why a backend is not checked, or None; ``is_first``: whether the case is the operator's first."""
    if name == 'flex' and (settings.device == 'cpu' or settings.quick):
        return 'no gradients on a CPU' if settings.device == 'cpu' else 'compiles for long; not with --quick'
    if name == 'recurrent' and case.options['tokens'] > 256:
        return 'one token after the other; only for short sequences'
    options = {**case.options, 'grad': case.differentiable}
    reason = operator.backends[name].why_not(Case(settings.device, case.dtype_of(0, dtype), named=True,
                                                  options=options))
    if name == 'flex' and not is_first:
        return reason or 'compiles for long; only for the first shapes'
    return reason


def compare(label: str, case: OperatorCase, inputs: list[Tensor], backend: str, cotangent: Tensor,
            expected: list[Tensor], tolerance: float) -> Result:
    """Compare the output and the gradients of all inputs with the expected ones."""
    poison(inputs[0].device.type)
    found = _gradients(case, inputs, backend, cotangent)
    if found[0].shape != expected[0].shape:
        return Result(label, FAILED, f'shape {tuple(found[0].shape)}, expected {tuple(expected[0].shape)}')
    errors = [relative_error(a, b) for a, b in zip(found, expected, strict=True)]
    if not all(error < tolerance for error in errors):
        names = ['output', *(f'gradient of input {i}' for i in range(len(errors) - 1))]
        wrong = ', '.join(f'{name} {error:.1e}' for name, error in zip(names, errors) if not error < tolerance)
        return Result(label, FAILED, f'relative error above {tolerance:g}: {wrong}', dict(errors=errors))
    return Result(label, OK, f'relative error {max(errors):.1e}', dict(errors=errors))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference by that of the expected tensor; NaN if there is one."""
    found, expected = found.double().cpu(), expected.double().cpu()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-30))


def exact_float32() -> contextlib.AbstractContextManager[Any]:
    """Compute convolutions of float32 in float32 on a GPU, not in TF32 as PyTorch does by default."""
    flags: contextlib.AbstractContextManager[Any] = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return flags


def poison(device: str) -> None:
    """Fill memory that PyTorch will give to the next tensors with NaN, to find elements that are not written."""
    if device == 'cuda':
        sizes = [_POISON] * 4 + [1 << 19] * 32
        filled = [torch.full((size // 4,), float('nan'), device=device) for size in sizes]
        del filled


def _gradients(case: OperatorCase, tensors: list[Tensor], backend: str, cotangent: Tensor) -> list[Tensor]:
    if not case.differentiable:
        return [case.call(tensors, backend)]
    leaves = [x.detach().requires_grad_() for x in tensors]
    out = case.call(leaves, backend)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent.to(out))]
