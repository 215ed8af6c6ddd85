"""Writing of ONNX models whose weights may be in a second file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitdet_plugin.export import onnx_file


def save_model(model: Any, path: Path) -> None:
    """Write an ``onnx.ModelProto``; large weights are written next to it, as ``path`` + '.data'."""
    import onnx
    size = sum(len(each.raw_data) for each in model.graph.initializer)
    if size > onnx_file.EXTERNAL_ABOVE:
        onnx.save(model, str(path), save_as_external_data=True, location=f'{path.name}.data')
    else:
        onnx.save(model, str(path))
