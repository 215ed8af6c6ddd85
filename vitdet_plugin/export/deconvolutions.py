"""Transposed convolutions in ONNX graphs as convolutions, for which runtimes have 8-bit kernels."""

from __future__ import annotations

from typing import Any

import numpy as np


def replace_deconvolutions(model: Any) -> int:
    """Replace each ``ConvTranspose`` whose kernel is as large as its stride by ``Conv`` and ``DepthToSpace``.

    Every input pixel then gives a block of output pixels of its own, so that the results are the same.

    Args:
        model: ``onnx.ModelProto`` with the weights, which is changed.

    Returns:
        The number of replaced nodes.
    """
    import onnx
    weights = {each.name: each for each in model.graph.initializer}
    nodes, count = [], 0
    for node in model.graph.node:
        side = _side(node, onnx)
        if side is None or any(name not in weights for name in node.input[1:]):
            nodes.append(node)
            continue
        kernel = onnx.numpy_helper.to_array(weights[node.input[1]])  # (C_in, C_out, side, side)
        flat = kernel.transpose(1, 2, 3, 0).reshape(-1, kernel.shape[0], 1, 1)
        parts = [flat, *(np.repeat(onnx.numpy_helper.to_array(weights[name]), side * side) for name in node.input[2:])]
        names = [f'{node.output[0]}_{name}' for name in ('weight', 'bias')[:len(parts)]]
        model.graph.initializer.extend(onnx.numpy_helper.from_array(np.ascontiguousarray(part), name)
                                       for part, name in zip(parts, names))
        blocks = f'{node.output[0]}_blocks'
        nodes += [onnx.helper.make_node('Conv', [node.input[0], *names], [blocks], f'{node.name}_conv',
                                        kernel_shape=[1, 1]),
                  onnx.helper.make_node('DepthToSpace', [blocks], list(node.output), f'{node.name}_blocks',
                                        blocksize=side, mode='CRD')]
        count += 1
    if count:
        unused = {name for node in model.graph.node for name in node.input} - {
            name for node in nodes for name in node.input}
        kept = [each for each in model.graph.initializer if each.name not in unused]
        del model.graph.node[:], model.graph.initializer[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(kept)
    return count


def _side(node: Any, onnx: Any) -> int | None:
    """Return the side of kernel and stride of a node that can be replaced; None for another one."""
    if node.op_type != 'ConvTranspose':
        return None
    options = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    kernel, strides = list(options.get('kernel_shape', ())), list(options.get('strides', (1, 1)))
    is_plain = not any(options.get('pads', ())) and not any(options.get('output_padding', ())) and all(
        each == 1 for each in options.get('dilations', ())) and options.get('group', 1) == 1 and options.get(
        'auto_pad', b'NOTSET') in (b'NOTSET', b'VALID') and 'output_shape' not in options
    return kernel[0] if is_plain and len(kernel) == 2 and kernel == strides and kernel[0] == kernel[1] else None
