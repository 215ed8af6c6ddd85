"""OpenVINO files (``.xml`` and ``.bin``), converted from ONNX files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitdet_plugin.errors import UserError

SECTION = 'vitdet_plugin'  # of rt_info


def write_openvino(source: Path, target: Path, metadata: dict[str, str], half: bool = False) -> None:
    """Convert an ONNX file.

    Args:
        source: A file of :func:`vitdet_plugin.export.onnx.export_onnx`, or of
            :func:`vitdet_plugin.export.quantize.quantize`.
        target: The ``.xml`` file to write; weights are written next to it, as ``.bin``.
        metadata: Entries of ``rt_info``, below :data:`SECTION`.
        half: Whether weights are compressed to float16.

    Raises:
        UserError: OpenVINO cannot convert the model.
    """
    import openvino
    try:
        model = openvino.convert_model(str(source))
        for key, value in metadata.items():
            model.set_rt_info(value, [SECTION, key])
        openvino.save_model(model, str(target), compress_to_fp16=half)
    except Exception as error:  # OpenVINO's errors have no common base class
        raise UserError(f'OpenVINO cannot convert the model ({_last_line(error)}); use --format onnx, or --features'
                        ) from error


def open_openvino(path: Path, threads: int | None = None) -> Callable[[np.ndarray], list[np.ndarray]]:
    """Return a function that runs a file on the CPU, with float32 where the file has float weights.

    Args:
        path: The ``.xml`` file.
        threads: Number of threads; None for OpenVINO's choice.

    Raises:
        UserError: OpenVINO cannot compile the model for this CPU.
    """
    import openvino
    settings = {'INFERENCE_PRECISION_HINT': 'f32'} | ({'INFERENCE_NUM_THREADS': threads} if threads else {})
    try:
        core = openvino.Core()
        model = core.compile_model(core.read_model(str(path)), 'CPU', settings)
    except Exception as error:
        raise UserError(f'OpenVINO cannot compile the model for this CPU ({_last_line(error)}); use --format onnx, or '
                        '--features') from error
    count = len(model.outputs)

    def run(images: np.ndarray) -> list[np.ndarray]:
        found = model([images])
        return [np.array(found[index]) for index in range(count)]
    return run


def move_openvino(source: Path, target: Path) -> None:
    """Move the ``.xml`` file and its weights over those of an earlier export."""
    os.replace(source.with_suffix('.bin'), target.with_suffix('.bin'))
    os.replace(source, target)


def _last_line(error: BaseException) -> str:
    """Return the last line of a message: OpenVINO prints the position in its own source before the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
