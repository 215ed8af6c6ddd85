"""Part ``time operators``: time and memory of every backend at the sizes of published models, in bfloat16."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vitdet_plugin.gpu_check.measuring import describe, measure
from vitdet_plugin.gpu_check.operator_cases import OperatorCase, timed_cases
from vitdet_plugin.gpu_check.results import LEFT_OUT, OK, Result, Settings, attempt
from vitdet_plugin.ops.dispatch import MODULES, Case, load_operator

DTYPE = torch.bfloat16


def run(settings: Settings) -> Iterator[Result]:
    """Yield one result for each operator, size, backend and direction."""
    for name in MODULES:
        for case in timed_cases(name, settings):
            tensors = case.cast(settings.device, DTYPE)
            for backend in load_operator(name).backends:
                for backward in (False, True) if case.differentiable else (False,):
                    kind = 'forward and backward' if backward else 'forward'
                    label = f'{name}, {case.label}, {kind}, {backend}'
                    reason = why_left_out(name, backend, settings, case, backward)
                    if reason:
                        yield Result(label, LEFT_OUT, reason)
                        continue
                    yield attempt(label, timed, label, case, tensors, backend, backward, settings)
            if name == 'rel_pos_attention':
                label = f'{name}, {case.label}, forward, PyTorch without bias'
                yield attempt(label, bound, label, tensors, settings)


def why_left_out(name: str, backend: str, settings: Settings, case: OperatorCase, backward: bool) -> str | None:
    """Return why a backend is not timed, or None."""
    if backend in ('recurrent', 'chunked'):
        return 'not for GPUs'
    if backend == 'flex' and (settings.quick or settings.device == 'cpu'):
        return 'compiles for long; not with --quick or on a CPU'
    options = {**case.options, 'grad': backward}
    return load_operator(name).backends[backend].why_not(Case(settings.device, case.dtype_of(0, DTYPE), named=True,
                                                              options=options))


def timed(label: str, case: OperatorCase, tensors: list[Tensor], backend: str, backward: bool,
          settings: Settings) -> Result:
    """Time one backend."""
    leaves = [x.detach().requires_grad_(backward) for x in tensors]
    with torch.no_grad():
        direction = torch.randn_like(case.call(tensors, backend))

    def step() -> None:
        with torch.set_grad_enabled(backward):
            out = case.call(leaves, backend)
        if backward:
            torch.autograd.grad(out, leaves, direction)

    numbers = measure(step, settings.device, 0.1 if settings.quick else 0.3, warm_up=0 if settings.tiny else 3)
    return Result(label, OK, describe(numbers), numbers)


def bound(label: str, tensors: list[Tensor], settings: Settings) -> Result:
    """Time PyTorch's fused attention without the bias: what no form can be much faster than."""
    q, k, v = tensors[:3]
    numbers = measure(lambda: F.scaled_dot_product_attention(q, k, v), settings.device, 0.1)
    return Result(label, OK, describe(numbers), numbers)
