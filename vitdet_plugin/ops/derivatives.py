"""Derivatives of operators: the first by their kernels, higher ones by their reference implementation.

A derivative that an operator does not have must be an error. PyTorch would take it for zero: its dispatcher drops
tangents and only warns about second derivatives, and the error of ``once_differentiable`` is not part of the graph of
the inputs, so ``torch.autograd.grad`` does not reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import retrieve_all_functorch_interpreters
from torch.autograd import forward_ad

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.precision import no_autocast

REFERENCES = ('pytorch', 'dense', 'parallel', 'plain')  #: names of the reference implementations
_libraries: list[torch.library.Library] = []  # their registrations end when they are deleted


class DerivativeError(UserError, NotImplementedError):
    """An operator does not have the requested derivative."""


def is_transformed() -> bool:
    """Whether forward-mode derivatives are computed, or gradients by ``torch.func``, which operators do not have."""
    if torch.compiler.is_compiling():
        return False
    if forward_ad._current_level >= 0:
        return True
    return torch._C._are_functorch_transforms_active() and any(
        interpreter.key() != torch._C._functorch.TransformType.Vmap
        for interpreter in retrieve_all_functorch_interpreters())


def derivative(backward: Callable[..., Sequence[Tensor | None]], reference: Callable[..., Tensor], tensors: int,
               saved: Sequence[int] = ()) -> tuple[Callable[..., None], Callable[..., Any]]:
    """Return ``setup_context`` and ``backward`` of an operator whose first result can be differentiated.

    Args:
        backward: takes the gradient of the first result, the tensors among the operator's arguments, the results
            ``saved`` and the other arguments; returns the gradients of the first tensors. Further tensors have none.
        reference: takes the operator's arguments and returns the first result by differentiable functions of PyTorch.
            It replaces ``backward`` where the gradients themselves may be differentiated (``create_graph=True``).
        tensors: number of tensors among the arguments, which are the first ones.
        saved: indices of the results that ``backward`` takes.
    """
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        ctx.constants = inputs[tensors:]
        ctx.save_for_backward(*inputs[:tensors], *(outputs[index] for index in saved))
        ctx.mark_non_differentiable(*outputs[1:])
        ctx.set_materialize_grads(False)  # no zeros for the other results

    def run_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        found: Sequence[Tensor | None] = ()
        if grads[0] is not None and torch.is_grad_enabled():
            found = differentiable_gradients(reference, grads[0], ctx.saved_tensors[:tensors], ctx.constants)
        elif grads[0] is not None:
            found = backward(grads[0], *ctx.saved_tensors, *ctx.constants)
        return *found, *(None for _ in range(tensors + len(ctx.constants) - len(found)))

    return setup_context, run_backward


def recording(forward: Callable[..., Any], setup_context: Callable[..., None]) -> Callable[..., Any]:
    """Return the ``forward`` of a ``torch.autograd.Function`` that takes the context, from its two parts.

    In each call of a function with a separate ``setup_context``, which only ``torch.func`` needs, PyTorch inspects the
    signature of ``forward``; that takes longer than a small kernel.
    """
    def forward_with_context(ctx: Any, *inputs: Any) -> Any:
        output = forward(*inputs)
        setup_context(ctx, inputs, output)
        return output

    return forward_with_context


def differentiable_gradients(reference: Callable[..., Tensor], grad: Tensor, tensors: Sequence[Tensor | None],
                             constants: Sequence[Any] = ()) -> list[Tensor | None]:
    """Return the gradients of ``reference(*tensors, *constants)``, as differentiable functions of ``grad`` and tensors.

    Args:
        reference: differentiable function that returns one tensor.
        grad: gradient of the result.
        tensors: arguments; those that are None or not of a floating point type have no gradient.
        constants: further arguments.
    """
    indices = [index for index, tensor in enumerate(tensors) if tensor is not None and tensor.is_floating_point()]

    def call(*some: Tensor) -> Tensor:
        arguments = list(tensors)
        for index, tensor in zip(indices, some, strict=True):
            arguments[index] = tensor
        return reference(*arguments, *constants)

    found: list[Tensor | None] = [None] * len(tensors)
    with no_autocast(grad.device.type):
        pull_back = torch.func.vjp(call, *(tensors[index] for index in indices))[1]
        for index, gradient in zip(indices, pull_back(grad), strict=True):
            found[index] = gradient
    return found


def register_derivative(name: str, setup_context: Callable[..., None] | None = None,
                        backward: Callable[..., Any] | None = None) -> None:
    """Register the derivative of an operator, like ``torch.library.register_autograd``.

    Unlike there, tangents of forward mode raise :class:`DerivativeError`, and so do gradients by ``torch.func``.
    Without ``backward``, so does a call that autograd would record.

    Args:
        name: operator with its namespace.
        setup_context: see ``torch.library.register_autograd``.
        backward: see ``torch.library.register_autograd``.
    """
    namespace, _, short = name.partition('::')
    operator = getattr(getattr(torch.ops, namespace), short).default

    def run(keyset: Any, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keyset & torch._C._after_autograd_keyset, *args)

    class Recorded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *args: Any) -> Any:
            output = run(keyset, *args)
            assert setup_context is not None
            setup_context(ctx, args, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
            assert backward is not None
            return None, *backward(ctx, *grads)

    def call(keyset: Any, *args: Any) -> Any:
        recorded = torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        if forward_ad._current_level >= 0 and any(_has_tangent(arg) for arg in args):
            problem = 'has no forward-mode derivatives'
        elif recorded and backward is None:
            problem = 'cannot be differentiated'
        elif recorded and torch._C._are_functorch_transforms_active():
            problem = 'cannot be differentiated by torch.func'
        else:
            return Recorded.apply(keyset, *args) if recorded else run(keyset, *args)
        raise DerivativeError(f'{name} {problem}; use the reference implementation in PyTorch (backend or form '
                              f'{" or ".join(map(repr, REFERENCES))})')

    library = torch.library.Library(namespace, 'FRAGMENT')
    library.impl(short, call, 'Autograd', with_keyset=True)
    _libraries.append(library)


def _has_tangent(arg: Any) -> bool:
    return isinstance(arg, Tensor) and forward_ad.unpack_dual(arg).tangent is not None
