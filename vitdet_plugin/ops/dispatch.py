"""One dispatch for all operators: the first backend that can serve a call, or the one that the caller names.

An operator lists its backends, fastest first. ``why_not`` of a backend returns the reason why it cannot serve a call,
or None. To add a backend, write a module with a ``BACKEND`` next to the others of the operator, and add it to the
operator's list::

    BACKEND = Backend('triton', run=attention_triton, why_not=lambda case: None if case.device == 'cuda' else '...')

This module does not import torch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from vitdet_plugin.errors import UserError

#: Operator -> module that defines it as ``OPERATOR``. DCNv3 is a separate package that uses this one.
MODULES = {
    'rel_pos_attention': 'vitdet_plugin.ops.rel_pos_attention',
    'mlstm': 'vitdet_plugin.ops.mlstm',
    'outlook_attention': 'vitdet_plugin.ops.outlook_attention',
    'ms_deform_attn': 'vitdet_plugin.ops.ms_deform_attn',
    'tap_softmax': 'vitdet_plugin.ops.tap_softmax',
    'nms': 'vitdet_plugin.ops.nms',
    'dcnv3': 'ops_dcnv3.functional',
}
DEVICES = ('cpu', 'cuda')
NOT_TRANSFORMED = 'has neither forward-mode derivatives nor gradients by torch.func'  #: reason of a backend


class BackendError(UserError, RuntimeError, ValueError):
    """The requested backend does not exist or cannot serve the call; the message gives the reason for each backend."""


class Case(NamedTuple):
    """The properties of a call on which the choice of a backend depends.

    Attributes:
        device: type of the tensors' device, such as 'cpu' or 'cuda'.
        dtype: ``torch.dtype`` of the tensors; None if unknown.
        exporting: whether the call is traced for ONNX or by ``torch.export``.
        named: whether the caller, or the environment, names the backend. Reasons that are a preference (slower, not
            exportable to ONNX) do not count then.
        transformed: whether ``torch.func`` differentiates the call, or forward mode.
        options: further properties, by operator; a missing one is unknown.
    """

    device: str
    dtype: Any = None
    exporting: bool = False
    named: bool = False
    transformed: bool = False
    options: Mapping[str, Any] = MappingProxyType({})

    def as_named(self) -> Case:
        """Return the case of the same call with a named backend."""
        # not _replace(), which torch.compile of torch 2.6 cannot trace
        return Case(self.device, self.dtype, self.exporting, True, self.transformed, self.options)


class Backend(NamedTuple):
    """One implementation of an operator.

    Attributes:
        name: the value of ``backend=`` or ``form=`` that selects it.
        run: the implementation; all backends of an operator take the same arguments.
        why_not: returns None if the backend can serve a case, and the reason if it cannot.
    """

    name: str
    run: Callable[..., Any]
    why_not: Callable[[Case], str | None]


class Operator:
    """An operator and its backends, in the order in which they are tried.

    The environment variable ``VITDET_OPS_<NAME>`` names the backend for calls that name none. It is read when the
    operator is imported.
    """

    def __init__(self, name: str, backends: Sequence[Backend]) -> None:
        self.name = name
        self.backends = {backend.name: backend for backend in backends}
        self.variable = f'VITDET_OPS_{name.upper()}'
        self.default = os.environ.get(self.variable) or None

    def check_name(self, name: str | None) -> None:
        """Raise BackendError unless ``name`` is None, 'auto' or the name of a backend."""
        if name is not None and name != 'auto' and name not in self.backends:
            raise BackendError(f'{self.name}: {name!r} is unknown; choose auto or one of {", ".join(self.backends)}')

    def choose(self, case: Case, name: str | None = None) -> Backend:
        """Return the backend for a call.

        Args:
            case: properties of the call.
            name: backend to use; None or 'auto' for the one named by the environment, else the first that can serve.

        Raises:
            BackendError: there is no such backend, or it cannot serve this call, or none can.
        """
        if name is None or name == 'auto':
            if self.default is None:
                for backend in self.backends.values():
                    if backend.why_not(case) is None:
                        return backend
                raise BackendError(f'{self.name}: no backend can serve this call ({self._reasons(case)})')
            name, source = self.default, f' (set by {self.variable})'
        else:
            source = ''
        if name not in self.backends:
            raise BackendError(f'{self.name}: {name!r}{source} is unknown; choose auto or one of '
                               f'{", ".join(self.backends)} ({self._reasons(case)})')
        backend = self.backends[name]
        reason = backend.why_not(case.as_named())
        if reason is not None:
            raise BackendError(f'{self.name}: {name!r}{source} cannot serve this call: {reason}. Choose auto or '
                               f'another backend ({self._reasons(case)})')
        return backend

    def why_not(self, case: Case) -> dict[str, str | None]:
        """Return for every backend the reason why it does not serve a case (unless it is named), or None."""
        return {name: backend.why_not(case) for name, backend in self.backends.items()}

    def info(self, device: str) -> dict[str, Any]:
        """Describe the choice for tensors on a device; see :func:`backend_info`."""
        case = Case(device)
        reasons = self.why_not(case)
        try:
            chosen = self.choose(case).name
        except BackendError:
            chosen = None
        named = f'{self.variable}={self.default} is set' if self.default else f'available, but {chosen} comes first'
        rejected = {name: reason or named for name, reason in reasons.items() if name != chosen}
        if chosen is None and self.default not in self.backends:
            rejected = {**rejected, str(self.default): f'{named}, but there is no such backend'}
        return {'backend': chosen, 'rejected': rejected}

    def _reasons(self, case: Case) -> str:
        return '; '.join(f'{name}: {reason or "available"}' for name, reason in self.why_not(case).items())


def load_operator(name: str) -> Operator:
    """Return an operator by its name in ``MODULES``."""
    operator: Operator = importlib.import_module(MODULES[name]).OPERATOR
    return operator


def backend_info() -> dict[str, dict[str, dict[str, Any]]]:
    """Report the backend for every operator and device type, and why the others are not used.

    Returns:
        operator -> device type ('cpu', 'cuda') -> ``{'backend': name or None, 'rejected': {name: reason}}``, for the
        default arguments of the operator.
    """
    operators = {name: load_operator(name) for name in MODULES}
    return {name: {device: operator.info(device) for device in DEVICES} for name, operator in operators.items()}


def format_info(info: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Return the result of :func:`backend_info` as a table of text, one line for each operator and device."""
    rows = [('operator', 'device', 'backend', 'other backends')]
    for name, devices in info.items():
        for device, each in devices.items():
            others = [f'{other}: {reason}' for other, reason in each['rejected'].items()]
            rows.append((name, device, each['backend'] or 'none', others[0] if others else ''))
            rows += [('', '', '', other) for other in others[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ['  '.join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]).rstrip() for row in rows]
    return '\n'.join(lines)
