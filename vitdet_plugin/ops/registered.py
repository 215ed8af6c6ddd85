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
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from vitdet_plugin.ops.derivatives import derivative, is_transformed, recording, register_derivative
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
        autograd: ``setup_context`` and ``backward``; none if the function cannot be differentiated.
        compiled_only: whether only compiled graphs get the operator; modes and transforms observe what ``run`` does.
    """

    def __init__(self, name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any],
                 autograd: Sequence[Callable[..., Any]] = (), compiled_only: bool = False) -> None:
        self.name, self.run, self.compiled_only = f'{NAMESPACE}::{name}', run, compiled_only
        torch.library.define(self.name, schema, tags=torch.Tag.pt2_compliant_tag)
        torch.library.impl(self.name, 'default', run)
        torch.library.register_fake(self.name, fake)
        self.operator = getattr(torch.ops.vitdet_plugin, name).default
        register_derivative(self.name, *autograd)

    def __call__(self, *args: Any) -> Any:
        """Run the function, or the operator where the call is observed."""
        return self.run(*args) if self._is_direct(args) else self.operator(*args)

    def _is_direct(self, args: Sequence[Any]) -> bool:
        return not torch.compiler.is_compiling() if self.compiled_only else is_plain(args)


class Differentiable(Registered):
    """A function whose first result can be differentiated.

    Args:
        name, schema, run, fake, compiled_only: as above.
        backward, reference, saved: see :func:`vitdet_plugin.ops.derivatives.derivative`.
        cast: what autocast does: takes the arguments and returns them with the tensors converted.
    """

    def __init__(self, name: str, schema: str, run: Callable[..., Any], fake: Callable[..., Any], backward: Registered,
                 reference: Callable[..., Tensor], saved: Sequence[int], cast: Callable[..., Sequence[Any]],
                 compiled_only: bool = False) -> None:
        self.backward, self.cast = backward, cast
        self.tensors = schema.partition('->')[0].count('Tensor ')
        save, gradients = derivative(backward, reference, self.tensors, saved)
        super().__init__(name, schema, run, fake, derivative(backward.operator, reference, self.tensors, saved),
                         compiled_only)

        class Recorded(torch.autograd.Function):
            forward = staticmethod(recording(run, save))
            backward = staticmethod(gradients)

        self.record = Recorded.apply
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
        if not self._is_direct(args):
            return self.operator(*args)
        if torch.is_autocast_enabled(args[0].device.type):
            args = tuple(self.cast(*args))
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in args[:self.tensors]):
            return self.record(*args)
        return self.run(*args)


def is_plain(args: Sequence[Any]) -> bool:
    """Whether a call is neither captured nor observed by a mode, a transform or a subclass of tensors."""
    if (torch.compiler.is_compiling() or torch.jit.is_tracing() or is_in_torch_dispatch_mode()
            or torch._C._are_functorch_transforms_active() or is_transformed()):
        return False
    return all(type(arg) in (Tensor, nn.Parameter) for arg in args if isinstance(arg, Tensor))
