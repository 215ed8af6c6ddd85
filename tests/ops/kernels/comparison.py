"""Compare a backend's output and gradients with the formula in float64."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Relative error of a tensor as a whole that each type may have.
TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def gradients(function: Callable[..., Tensor], tensors: Sequence[Tensor], cotangent: Tensor) -> list[Tensor]:
    """Return the output and the gradients of all tensors."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    out = function(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, cotangent.to(out))]


def relative_error(ours: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference by that of the expected tensor; NaN and infinity are errors."""
    if ours.numel() == 0:
        return 0.0
    ours, expected = ours.double().cpu(), expected.double().cpu()
    return float((ours - expected).norm() / expected.norm().clamp_min(1e-30))


def assert_same(function: Callable[..., Tensor], reference: Callable[..., Tensor], tensors: Sequence[Tensor],
                tolerance: float | None = None) -> None:
    """Compare output and all gradients of two functions; the reference gets the same numbers in float64."""
    wide = [x.double().cpu() for x in tensors]
    expected_shape = reference(*wide).shape
    cotangent = torch.randn(expected_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    cotangent = cotangent.to(tensors[0].dtype).double()
    expected = gradients(reference, wide, cotangent)
    found = gradients(function, tensors, cotangent)
    tolerance = tolerance or TOLERANCES[tensors[0].dtype]
    for index, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.shape == theirs.shape
        error = relative_error(ours, theirs)
        assert error < tolerance, f'{"output" if index == 0 else f"gradient of input {index - 1}"}: {error:.2e}'


def second_derivatives(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the derivatives of a weighted sum of all gradients of ``function(*tensors).square().sum()``."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    grads = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
    generator = torch.Generator().manual_seed(6)
    weights = [torch.randn(x.shape, dtype=torch.float64, generator=generator).to(x) for x in leaves]
    return list(torch.autograd.grad(sum((g * w).sum() for g, w in zip(grads, weights, strict=True)), leaves))


def assert_same_second_derivatives(function: Callable[..., Tensor], reference: Callable[..., Tensor],
                                   tensors: Sequence[Tensor], tolerance: float = 1e-4) -> None:
    """Compare the second derivatives of two functions; the reference gets the same numbers in float64."""
    expected = second_derivatives(reference, [x.double().cpu() for x in tensors])
    for ours, theirs in zip(second_derivatives(function, tensors), expected, strict=True):
        assert relative_error(ours, theirs) < tolerance
