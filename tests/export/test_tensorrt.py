"""Nodes that TensorRT is known not to take."""

import numpy as np
import pytest

from vitdet_plugin.export.tensorrt import tensorrt_problems, tensorrt_warning

onnx = pytest.importorskip('onnx', reason='the extra "onnx" is not installed')


def write(path, *nodes, k=5):
    def info(name):
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)

    values = dict(k=np.array([k]), sizes=np.array([1, 1, 8, 8]))
    graph = onnx.helper.make_graph(list(nodes), 'g', [info('x')], [info('y')], [
        onnx.numpy_helper.from_array(value, name) for name, value in values.items()])
    onnx.save(onnx.helper.make_model(graph), str(path))
    return path


def node(kind, inputs=('x',), **options):
    return onnx.helper.make_node(kind, list(inputs), ['y'], **options)


@pytest.mark.parametrize(('kind', 'inputs', 'options', 'problems'), [
    ('Relu', ['x'], {}, []),
    ('NonZero', ['x'], {}, ['1 x NonZero (is not taken before TensorRT 8.5 and by TensorRT-RTX)']),
    ('Resize', ['x', '', '', 'sizes'], dict(mode='linear'), []),
    ('Resize', ['x', '', '', 'sizes'], dict(mode='cubic'), ['1 x Resize (mode cubic; only nearest and linear)']),
    ('TopK', ['x', 'k'], {}, []),
    ('TopK', ['x', 'x'], {}, ['1 x TopK (K is not a constant)']),
    ('Gelu', ['x'], dict(domain='com.microsoft'), ['1 x com.microsoft.Gelu (not an operator of ONNX)'])])
def test_problems(tmp_path, kind, inputs, options, problems):
    path = write(tmp_path / 'a.onnx', node(kind, inputs, **options))
    assert tensorrt_problems(path) == problems
    assert (tensorrt_warning(path) or '') == (f'note: TensorRT is known not to take {problems[0]} of {path}'
                                              if problems else '')


def test_limits_and_inner_graphs(tmp_path):
    path = write(tmp_path / 'a.onnx', node('TopK', ['x', 'k']), k=4000)
    assert tensorrt_problems(path) == ['1 x TopK (K is 4000; at most 3840)']
    inner = onnx.helper.make_graph([node('NonZero')], 'inner', [], [])
    path = write(tmp_path / 'b.onnx', node('If', ['x'], then_branch=inner, else_branch=inner))
    assert tensorrt_problems(path) == ['2 x NonZero (is not taken before TensorRT 8.5 and by TensorRT-RTX)']
