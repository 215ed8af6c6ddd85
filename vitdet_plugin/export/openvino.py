"""OpenVINO files (``.xml`` and ``.bin``), converted from ONNX files."""

from __future__ import annotations

import os
from pathlib import Path

from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.backends import last_line

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
        raise UserError(f'OpenVINO cannot convert the model ({last_line(error)}); use --format onnx, or --features'
                        ) from error


def move_openvino(source: Path, target: Path) -> None:
    """Move the ``.xml`` file and its weights over those of an earlier export."""
    os.replace(source.with_suffix('.bin'), target.with_suffix('.bin'))
    os.replace(source, target)
