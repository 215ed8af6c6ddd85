"""Nodes of ONNX files that TensorRT is known not to take.

The list follows ``docs/operators.md`` of onnx-tensorrt for TensorRT 9.2 to 10; no file has been run by TensorRT here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_NO_IMPORTER = 'has no importer'
#: operator -> why TensorRT does not take it
UNSUPPORTED = {
    **dict.fromkeys((
        'Bernoulli', 'BitShift', 'BlackmanWindow', 'Col2Im', 'Compress', 'ConcatFromSequence', 'ConvInteger', 'DFT',
        'DeformConv', 'Det', 'DynamicQuantizeLinear', 'HammingWindow', 'HannWindow', 'MatMulInteger', 'MaxRoiPool',
        'MaxUnpool', 'MelWeightMatrix', 'Multinomial', 'NegativeLogLikelihoodLoss', 'Optional', 'OptionalGetElement',
        'OptionalHasElement', 'QLinearConv', 'QLinearMatMul', 'SequenceAt', 'SequenceConstruct', 'SequenceEmpty',
        'SequenceErase', 'SequenceInsert', 'SequenceLength', 'SequenceMap', 'SoftmaxCrossEntropyLoss',
        'SplitToSequence', 'STFT', 'StringNormalizer', 'TfIdfVectorizer', 'Unique'), _NO_IMPORTER),
    'NonZero': 'is not taken before TensorRT 8.5 and by TensorRT-RTX',
}
_RESIZE_MODES = ('nearest', 'linear')
_LARGEST_K = 3840


def tensorrt_problems(path: str | Path) -> list[str]:
    """List the nodes of a file that TensorRT is known not to take.

    Args:
        path: ONNX file; weights in a second file are not read.

    Returns:
        One entry for each operator and reason, such as ``'2 x Resize (mode cubic; only nearest and linear)'``; empty if
        nothing is known.
    """
    import onnx
    graph = onnx.load(str(path), load_external_data=False)
    found = Counter(_problems(graph.graph, onnx))
    for function in graph.functions:
        found.update(_problems(function, onnx))
    return [f'{count} x {problem}' for problem, count in sorted(found.items())]


def tensorrt_warning(path: str | Path) -> str | None:
    """Return one line about :func:`tensorrt_problems` for the command, or None."""
    problems = tensorrt_problems(path)
    return f'note: TensorRT is known not to take {", ".join(problems)} of {path}' if problems else None


def _problems(graph: Any, onnx: Any) -> Iterator[str]:
    constants = {each.name: each for each in getattr(graph, 'initializer', ())}
    for node in graph.node:
        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if node.op_type == 'Constant' and 'value' in attributes:
            constants[node.output[0]] = attributes['value']
        if node.domain not in ('', 'ai.onnx'):
            yield f'{node.domain}.{node.op_type} (not an operator of ONNX)'
        elif node.op_type in UNSUPPORTED:
            yield f'{node.op_type} ({UNSUPPORTED[node.op_type]})'
        elif node.op_type == 'Resize' and (mode := attributes.get('mode', b'nearest').decode()) not in _RESIZE_MODES:
            yield f'Resize (mode {mode}; only nearest and linear)'
        elif node.op_type == 'TopK':
            value = constants.get(node.input[1])
            if value is None:
                yield 'TopK (K is not a constant)'
            elif (k := int(onnx.numpy_helper.to_array(value).flatten()[0])) > _LARGEST_K:
                yield f'TopK (K is {k}; at most {_LARGEST_K})'
        for value in attributes.values():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, onnx.GraphProto):
                    yield from _problems(inner, onnx)
