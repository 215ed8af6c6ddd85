"""ONNX Runtime sessions for exported models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitdet_plugin.errors import UserError


def open_session(path: str | Path, kind: str, output: str, note: str) -> tuple[Any, dict[str, str]]:
    """Open an ONNX file written by :func:`vitdet_plugin.export.onnx.export_onnx`.

    Args:
        path: The ONNX file.
        kind: Expected kind of model for error messages, such as 'classifier'.
        output: Expected name of the first output.
        note: Required key of the metadata.

    Returns:
        The session and the metadata of the file.

    Raises:
        UserError: If the file does not exist or contains another kind of model.
    """
    import onnxruntime
    if not Path(path).is_file():
        raise UserError(f'{path} does not exist. Write it with "vitdet export".')
    try:
        session = onnxruntime.InferenceSession(str(path), providers=onnxruntime.get_available_providers())
    except Exception as error:  # the errors of ONNX Runtime have no common base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f'{path} cannot be loaded ({reason}). If its weights are in {Path(path).name}.data, keep both '
                        'files in one folder.') from error
    about = session.get_modelmeta().custom_metadata_map
    if note not in about or session.get_outputs()[0].name != output:
        raise UserError(f'{path} is not a {kind} written by "vitdet export". Export it again.')
    return session, about


def describe_channels(channels: int) -> str:
    """Return the order of the channels of the input: RGB if there are 3, else as in the image file."""
    return {1: 'gray', 3: 'RGB'}.get(channels, f'{channels} channels as in the image file')
