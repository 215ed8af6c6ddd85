"""Which nodes of an ONNX graph form the network proper, between preprocessing and post-processing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_LAYERS = ('Conv', 'Gemm', 'MatMul', 'ConvTranspose')
# operator -> inputs that are coordinates or indices: what computes them must stay in float32
_COORDINATES = {'RoiAlign': (1, 2), 'GridSample': (1,), 'Gather': (1,), 'GatherND': (1,), 'GatherElements': (1,)}
_ENDS = ('TopK', 'NonMaxSuppression', 'ArgMax')  # nothing after these is a feature


@dataclass(frozen=True)
class Trunk:
    """Names of nodes of a graph.

    Attributes:
        layers: Layers with constant weights whose outputs reach another layer, without the first one: these can be
            computed in 8 bits.
        nodes: All nodes between the first and the last layers, with these: they can be computed in float16.
    """

    layers: frozenset[str]
    nodes: frozenset[str]


def find_trunk(model: Any) -> Trunk:
    """Find the trunk of an ``onnx.ModelProto``, whose nodes must have names.

    The last layers, which compute scores, box deltas, offsets of sampling locations or mask logits, are in ``nodes``
    but not in ``layers``.
    """
    nodes = list(model.graph.node)
    constants = {each.name for each in model.graph.initializer}
    constants |= {name for node in nodes if node.op_type == 'Constant' for name in node.output}
    is_layer = [node.op_type in _LAYERS and any(name in constants for name in node.input[1:2]) for node in nodes]
    users: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for position, name in enumerate(node.input):
            if position not in _COORDINATES.get(node.op_type, ()) and node.op_type not in _ENDS:
                users.setdefault(name, []).append(index)
    after = [[user for name in node.output for user in users.get(name, ())] for node in nodes]
    reaches = [False] * len(nodes)  # whether a later layer depends on the node; graphs are in topological order
    follows = [False] * len(nodes)  # whether the node depends on a layer
    for index in reversed(range(len(nodes))):
        reaches[index] = any(is_layer[user] or reaches[user] for user in after[index])
    for index in range(len(nodes)):
        for user in after[index]:
            follows[user] = follows[user] or follows[index] or is_layer[index]
    inside = [is_layer[i] or follows[i] and reaches[i] for i in range(len(nodes))]
    first = {index for index in range(len(nodes)) if is_layer[index] and not follows[index]}
    layers = [nodes[i].name for i in range(len(nodes)) if is_layer[i] and reaches[i] and i not in first]
    return Trunk(frozenset(layers), frozenset(node.name for node, is_inside in zip(nodes, inside) if is_inside))
