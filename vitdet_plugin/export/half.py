"""Float16 weights and activations in ONNX files."""

from __future__ import annotations

import warnings
from pathlib import Path

from vitdet_plugin.export.graph import find_trunk
from vitdet_plugin.export.onnx_file import read_metadata, save_model

# sums over many values, exponentials and coordinates lose too much in float16; layer normalization keeps its
# statistics in float32 by itself (stash_type)
_FLOAT32_OPS = ('ArgMax', 'CumSum', 'Exp', 'GridSample', 'Log', 'Max', 'Min', 'NonMaxSuppression', 'Pow', 'Range',
                'ReduceLogSumExp', 'ReduceMax', 'ReduceMean', 'ReduceSum', 'Resize', 'RoiAlign', 'Sqrt', 'TopK')


def convert_to_half(source: Path, target: Path, metadata: dict[str, str]) -> None:
    """Write a copy of an ONNX file whose network computes in float16; inputs and outputs stay in float32.

    The normalization of the image, decoding of boxes, top-k, NMS and the operators above stay in float32.

    Args:
        source: A file of :func:`vitdet_plugin.export.onnx.export_onnx`.
        target: File to write; large weights are written next to it, as ``target`` + '.data'.
        metadata: Entries to add to the file's metadata.
    """
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16
    model = onnx.load(str(source))
    trunk = find_trunk(model)
    kept = [node.name for node in model.graph.node if node.name not in trunk.nodes]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # weights below the smallest float16 value
        converted = convert_float_to_float16(model, keep_io_types=True, op_block_list=list(_FLOAT32_OPS),
                                             node_block_list=kept, disable_shape_infer=True)
    onnx.helper.set_model_props(converted, {**read_metadata(source), **metadata})
    save_model(converted, target)
