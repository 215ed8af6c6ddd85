"""ONNX files of ours, opened by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitdet_plugin.errors import UserError


def open_session(path: str | Path, kind: str, output: str, note: str) -> tuple[Any, dict[str, str]]:
    """ONNX Runtime's session, and what :func:`vitdet_plugin.export.onnx.export_onnx` wrote into the file beside it.

    Args:
        path: The file.
        kind: What it should hold, for the message.
        output: Name of that kind's first output.
        note: A key of the metadata that the caller needs.

    Raises:
        UserError: No such file, or another kind of model.
    """
    import onnxruntime
    if not Path(path).is_file():
        raise UserError(f'{path} does not exist; "vitdet export" writes such a file')
    session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    about = session.get_modelmeta().custom_metadata_map
    if note not in about or session.get_outputs()[0].name != output:
        raise UserError(f'{path} is not a {kind} written by "vitdet export"')
    return session, about
