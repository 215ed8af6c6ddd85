"""Files of ONNX and OpenVINO before they get their name: converted from the float32 ONNX file, run, and moved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.onnx_file import move_model, read_metadata
from vitdet_plugin.export.request import ExportRequest
from vitdet_plugin.runtime.backends import open_session
from vitdet_plugin.runtime.errors import ModelError

Run = Callable[[np.ndarray], Sequence[np.ndarray]]
NAMES = {'onnx': 'ONNX Runtime', 'openvino': 'OpenVINO', 'torch-export': 'the loaded program',
         'torchscript': 'the loaded TorchScript'}


@dataclass
class Exported:
    """What was written.

    Attributes:
        difference: Maximum difference from the model's own predictions; None for int8, see ``notes``.
        notes: More facts for the user, a line each.
    """

    difference: float | None
    notes: list[str] = field(default_factory=list)


def open_draft(path: Path) -> Run:
    """Return a function that runs a file of ONNX or OpenVINO on the CPU, with images (B, C, H, W) float32.

    Raises:
        UserError: It cannot be loaded.
    """
    try:
        session = open_session(path, providers=['CPUExecutionProvider'] if path.suffix == '.onnx' else None)
    except ModelError as error:
        raise UserError(f'not written: {error}; use another --format, or --features') from error
    return lambda images: list(session.run(images).values())


def convert(source: Path, draft: Path, request: ExportRequest) -> None:
    """Write the float16 file, or that of OpenVINO, of an ONNX file."""
    about = read_metadata(source) | (dict(precision='"half"') if request.half else {})
    if request.format == 'openvino':
        from vitdet_plugin.export.openvino import write_openvino
        write_openvino(source, draft, about, request.half)
    else:
        from vitdet_plugin.export.half import convert_to_half
        convert_to_half(source, draft, about)


def move(draft: Path, request: ExportRequest) -> None:
    """Move a file, and its weights if they are in a second one, over those of an earlier export."""
    if request.format == 'openvino':
        from vitdet_plugin.export.openvino import move_openvino
        move_openvino(draft, request.out)
    else:
        move_model(draft, request.out)
