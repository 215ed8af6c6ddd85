"""Write ONNX files: operator set, metadata, weights in a second file where one is too small."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vitdet_plugin.errors import UserError

EXTERNAL_ABOVE = 3 * 2 ** 29  # bytes of weights; a file of ONNX holds at most 2 GiB


def write_program(program: Any, path: Path, opset: int, metadata: dict[str, str]) -> None:
    """Write the result of torch's exporter with an operator set.

    Args:
        program: ``torch.onnx.ONNXProgram``.
        path: File to write; large weights are written next to it, as ``path`` + '.data'.
        opset: Version that the file must have.
        metadata: Entries of the file's metadata.

    Raises:
        UserError: The file would have another version.
    """
    import onnx
    program.model.metadata_props.update(metadata)
    tensors = (value.const_value for value in program.model.graph.initializers.values())
    size = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    program.save(str(path), external_data=size > EXTERNAL_ABOVE)
    written = read_opset(path)
    if written == opset:
        return
    refusal = UserError(f'--opset {opset}: torch writes this model with opset {written}, and it cannot be converted to '
                        f'{opset}. Choose {written}')
    if size > EXTERNAL_ABOVE:
        raise refusal
    try:
        converted = onnx.version_converter.convert_version(onnx.load(str(path)), opset)
        _drop_newer_attributes(converted, opset)
        onnx.checker.check_model(converted)
    except Exception as error:  # the converter raises RuntimeError and others
        raise refusal from error
    for key, value in metadata.items():
        if key not in {each.key for each in converted.metadata_props}:
            converted.metadata_props.add(key=key, value=value)
    onnx.save(converted, str(path))
    if read_opset(path) != opset:
        raise refusal


def _drop_newer_attributes(model: Any, opset: int) -> None:
    """Remove an attribute of reductions that the converter leaves in operator sets which do not have it.

    Axes, which the converter turns into an attribute, are always given, so that it has no effect.
    """
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            graphs += [each.g for each in node.attribute if each.HasField('g')]
            since = 13 if node.op_type == 'ReduceSum' else 18
            if node.op_type.startswith('Reduce') and opset < since:
                for each in [each for each in node.attribute if each.name == 'noop_with_empty_axes']:
                    node.attribute.remove(each)


def read_opset(path: str | Path) -> int:
    """Return the version of the ONNX operator set that a file states."""
    import onnx
    content = onnx.load(str(path), load_external_data=False)
    return next(each.version for each in content.opset_import if each.domain in ('', 'ai.onnx'))


def read_metadata(path: str | Path) -> dict[str, str]:
    """Return the metadata of an ONNX file; values are JSON."""
    import onnx
    return {each.key: each.value for each in onnx.load(str(path), load_external_data=False).metadata_props}


def save_model(model: Any, path: Path) -> None:
    """Write an ``onnx.ModelProto``; large weights are written next to it, as ``path`` + '.data'."""
    import onnx
    is_large = sum(len(each.raw_data) for each in model.graph.initializer) > EXTERNAL_ABOVE
    onnx.save(model, str(path), **(dict(save_as_external_data=True, location=f'{path.name}.data') if is_large else {}))


def move_model(source: Path, target: Path) -> None:
    """Move a model and its weights, if they are in a second file, over those of an earlier export."""
    data, target_data = (path.with_name(f'{path.name}.data') for path in (source, target))
    if data.is_file():
        os.replace(data, target_data)
        os.replace(source, target)
        return
    os.replace(source, target)
    target_data.unlink(missing_ok=True)  # weights of the earlier export
