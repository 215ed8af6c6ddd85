"""Small ONNX files of the form that "vitdet export" writes."""

import json
from pathlib import Path

import numpy as np

PIPELINES = {
    'detector': [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64), keep_ratio=True),
                 dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                                                       'scale_factor'))],
    'classifier': [dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=32, edge='short'),
                   dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')],
}
BOX = [8.0, 16.0, 40.0, 48.0]  # in pixels of the input


def write_detector(path: Path, batch: int | str = 1) -> Path:
    """Write a detector that finds BOX, of class 1, in every image, with a score that is the mean of red / 255."""
    from onnx import TensorProto, helper, numpy_helper
    nodes = [
        helper.make_node('Shape', ['image'], ['b'], start=0, end=1),
        helper.make_node('Concat', ['b', 'one_four'], ['boxes_shape'], axis=0),
        helper.make_node('Concat', ['b', 'one'], ['rows_shape'], axis=0),
        helper.make_node('Expand', ['box', 'boxes_shape'], ['boxes']),
        helper.make_node('Expand', ['label', 'rows_shape'], ['labels']),
        helper.make_node('Split', ['image'], ['red', 'green', 'blue'], axis=1, num_outputs=3),
        helper.make_node('ReduceMean', ['red', 'axes'], ['mean'], keepdims=0),
        helper.make_node('Div', ['mean', 'most'], ['scores']),
    ]
    values = dict(box=np.array([[BOX]], np.float32), label=np.array([[1]]), one=np.array([1]),
                  one_four=np.array([1, 4]), axes=np.array([2, 3]), most=np.array(255, np.float32))
    outputs = [('boxes', TensorProto.FLOAT, [batch, 1, 4]), ('scores', TensorProto.FLOAT, [batch, 1]),
               ('labels', TensorProto.INT64, [batch, 1])]
    return _write(path, nodes, values, [batch, 3, 64, 64], outputs, 'detector', numpy_helper)


def write_classifier(path: Path, batch: int | str = 1) -> Path:
    """Write a classifier whose scores are the means of red, green and blue, divided by 255."""
    from onnx import TensorProto, helper, numpy_helper
    nodes = [helper.make_node('ReduceMean', ['image', 'axes'], ['mean'], keepdims=0),
             helper.make_node('Div', ['mean', 'most'], ['scores'])]
    values = dict(axes=np.array([2, 3]), most=np.array(255, np.float32))
    return _write(path, nodes, values, [batch, 3, 32, 32], [('scores', TensorProto.FLOAT, [batch, 3])], 'classifier',
                  numpy_helper)


def _write(path, nodes, values, shape, outputs, kind, numpy_helper) -> Path:
    import onnx
    from onnx import TensorProto, helper
    graph = helper.make_graph(nodes, kind, [helper.make_tensor_value_info('image', TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(*each) for each in outputs],
                              [numpy_helper.from_array(value, name) for name, value in values.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=10)
    about = dict(classes=['apple', 'lime', 'plum'], shape=shape[2:], padding=[0.0] * 3, pipeline=PIPELINES[kind])
    helper.set_model_props(model, {key: json.dumps(value) for key, value in about.items()})
    onnx.save(model, str(path))
    return path
