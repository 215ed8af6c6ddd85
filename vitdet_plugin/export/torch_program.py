"""Files that torch and torchvision load without this package: ``torch.export`` programs and TorchScript."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdet_plugin.errors import UserError

METADATA = 'vitdet.json'  # extra file with the metadata
_OWN = 'vitdet_plugin'  # namespace of operators that only this package has


def check_operators(program: Any) -> None:
    """Check that a program of ``torch.export`` can be loaded without this package.

    Raises:
        UserError: The program needs operators of this package.
    """
    own = sorted({str(node.target) for node in program.graph.nodes if str(node.target).startswith(_OWN)})
    if own:
        raise UserError(f'the program would need the operator {own[0]} of this package; use --format onnx')


def write_program(program: Any, target: Path, metadata: dict[str, str]) -> None:
    """Write a program of ``torch.export``.

    Args:
        program: The program.
        target: The ``.pt2`` file to write.
        metadata: Written as JSON into the extra file :data:`METADATA`.
    """
    buffer = io.BytesIO()  # with a path, a full disk aborts the process
    torch.export.save(program, buffer, extra_files={METADATA: json.dumps(metadata)})
    target.write_bytes(buffer.getbuffer())


def open_program(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function that runs a ``.pt2`` file on the CPU."""
    import torchvision  # noqa: F401  its operators may be in the file
    return _runner(torch.export.load(str(path)).module())


def write_torchscript(program: Any, example: Tensor, target: Path, metadata: dict[str, str]) -> None:
    """Write a program of ``torch.export`` as a TorchScript trace.

    The program is traced, not the module, in which a trace would turn sizes into tensors.

    Args:
        program: The program, with fixed sizes.
        example: Images (B, C, H, W).
        target: File to write.
        metadata: Written as JSON into the extra file :data:`METADATA`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of values that become constants: the comparison judges the result
        traced = torch.jit.trace(program.module(), (example,), check_trace=False, strict=False)
    buffer = io.BytesIO()  # as in write_program
    torch.jit.save(traced, buffer, _extra_files={METADATA: json.dumps(metadata)})
    target.write_bytes(buffer.getbuffer())


def open_torchscript(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function that runs a TorchScript file on the CPU."""
    import torchvision  # noqa: F401
    return _runner(torch.jit.load(str(path), 'cpu'))


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a file of either format.

    Raises:
        UserError: The file has none.
    """
    extra = {METADATA: ''}
    if path.suffix == '.pt2':
        torch.export.load(str(path), extra_files=extra)
    else:
        torch.jit.load(str(path), 'cpu', _extra_files=extra)
    if not extra[METADATA]:
        raise UserError(f'{path} was not written by "vitdet export". Export it again.')
    return json.loads(extra[METADATA])


def _runner(module: Any) -> Callable[[np.ndarray], list[np.ndarray]]:
    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            found = module(torch.from_numpy(images))
        return [each.numpy() for each in ([found] if isinstance(found, Tensor) else found)]
    return run
