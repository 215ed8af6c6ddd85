"""Operators of :mod:`torch.library` whose plain calls do not go through PyTorch's dispatcher.

``torch.compile``, exports, fake tensors, modes and transforms such as ``vmap`` get an operator of the namespace
``vitdet_plugin``. A plain call runs the same function directly, in a ``torch.autograd.Function`` if it is recorded: the
dispatcher would call Python several times for each operator, which takes longer than a small kernel on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from vitdet_plugin.ops.library import NAMESPACE
from vitdet_plugin.utils.precision import no_autocast

_libraries: list[torch.library.Library] = []  # their registrations end when they are deleted


class Registered:
    """A function of tensors that is an operator as well.

    Args:
        name: operator of the namespace ``vitdet_plugin``.
        schema: arguments and results, tensors first.
        run: the function; its results share no memory with its arguments or with each other.
        fake: returns empty results, for tracing.
    """

    def __init__(self, name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
        self.name, self.run = f'{NAMESPACE}::{name}', run
        torch.library.define(self.name, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(self.name, 'default', run)
        torch.library.register_fake(self.name, fake)
        self.operator = getattr(torch.ops.vitdet_plugin, name).default

    def __call__(self, *args: Any) -> Any:
        """Run the function, or the operator where the call is observed."""
        return self.run(*args) if is_plain(args) else self.operator(*args)


class Differentiable(Registered):
    """A function whose first result can be differentiated once.

    Args:
        name, schema, run, fake: as above.
        backward: takes the gradient of the first result, the tensors among the arguments, the results ``saved`` and the
            other arguments; returns the gradients of the first tensors. Further tensors have none.
        saved: indices of the results that ``backward`` takes.
        cast: what autocast does: takes the arguments and returns them with the tensors converted.
    """

    def __init__(self, name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any], backward: Registered,
                 saved: Sequence[int], cast: Callable[..., Sequence[Any]]) -> None:
        super().__init__(name, schema, run, fake)
        self.backward, self.cast = backward, cast
        self.tensors = count = schema.partition('->')[0].count('Tensor ')

        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            ctx.constants = inputs[count:]
            ctx.save_for_backward(*inputs[:count], *(outputs[index] for index in saved))
            ctx.mark_non_differentiable(*outputs[1:])
            ctx.set_materialize_grads(False)  # no zeros for the other results

        def run_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
            found = () if grads[0] is None else backward(grads[0], *ctx.saved_tensors, *ctx.constants)
            return *found, *(None for _ in range(count + len(ctx.constants) - len(found)))

        gradients: Any = once_differentiable(run_backward)

        class Recorded(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                output = run(*inputs)
                setup_context(ctx, inputs, output)
                return output

            backward = staticmethod(gradients)

        self.record = Recorded.apply
        torch.library.register_autograd(self.name, gradients, setup_context=setup_context)
        for device in ('cuda', 'cpu'):
            self._register_autocast(device)

    def _register_autocast(self, device: str) -> None:
        def run(*args: Any) -> Any:
            with no_autocast(device):
                return self.operator(*self.cast(*args))

        library = torch.library.Library(NAMESPACE, 'FRAGMENT')
        library.impl(self.name.partition('::')[2], run, f'Autocast{device.upper()}')
        _libraries.append(library)

    def __call__(self, *args: Any) -> Any:
        """Run the function, or the operator where the call is observed."""
        if not is_plain(args):
            return self.operator(*args)
        if torch.is_autocast_enabled(args[0].device.type):
            args = tuple(self.cast(*args))
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in args[:self.tensors]):
            return self.record(*args)
        return self.run(*args)


def is_plain(args: Sequence[Any]) -> bool:
    """Whether a call is neither captured nor observed by a mode, a transform or a subclass of tensors."""
    if (torch.compiler.is_compiling() or torch.jit.is_tracing() or is_in_torch_dispatch_mode()
            or torch._C._are_functorch_transforms_active()):
        return False
    return all(type(arg) in (Tensor, nn.Parameter) for arg in args if isinstance(arg, Tensor))
