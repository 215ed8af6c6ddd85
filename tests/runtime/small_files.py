"""Small ONNX files of format 2 (and 1), made without a model, and images for them."""

import json

import numpy as np

CLASSES = ['a', 'b', 'c']
RESIZE = dict(resize=[32, 24], keep_ratio=True, interpolation='bilinear', backend='cv2')


def write_detector(path, dynamic=('batch', 'size'), masks=None, preprocess=(dict(load='color'), RESIZE), shape=(24, 32),
                   file_format=2, **metadata):
    """Write a detector that finds one object, with the mean of the image (RGB) as its score.

    The box is a quarter of the input, (W/4, H/4, W/2, H/2); the second row is empty. ``masks`` are ``'boxes'``, grids
    whose left half is the object, or ``'image'``.
    """
    import onnx
    from onnx import TensorProto, helper
    sides = ['b' if 'batch' in dynamic else 1, 3, *(('h', 'w') if 'size' in dynamic else shape)]
    single = file_format == 1
    one, nodes = helper.make_tensor, []
    constants = [
        one('axes', TensorProto.INT64, [3], [1, 2, 3]), one('scale', TensorProto.FLOAT, [], [1 / 255]),
        one('wh', TensorProto.INT64, [4], [3, 2, 3, 2]), one('parts', TensorProto.FLOAT, [4], [.25, .25, .5, .5]),
        one('zero', TensorProto.INT64, [1], [0]), one('one', TensorProto.INT64, [1], [1]),
        one('two', TensorProto.INT64, [1], [2]), one('grid', TensorProto.FLOAT, [1, 1, 4, 4],
                                                     [1., 1, 0, 0] * 4)]

    def node(kind, inputs, output, **options):
        nodes.append(helper.make_node(kind, inputs, [output], **options))

    node('ReduceMean', ['image', 'axes'], 'mean4', keepdims=1)
    node('Mul', ['mean4', 'scale'], 'mean4s')
    node('Squeeze', ['mean4s', 'squeezed'], 'mean')  # (B, 1)
    constants.append(one('squeezed', TensorProto.INT64, [2], [2, 3]))
    node('Mul', ['mean', 'nothing'], 'empty')
    constants.append(one('nothing', TensorProto.FLOAT, [], [0.]))
    node('Concat', ['mean', 'empty'], 'scores2', axis=1)  # (B, 2)
    node('Shape', ['image'], 'sides')
    node('Gather', ['sides', 'wh'], 'whwh')
    node('Cast', ['whwh'], 'whwhf', to=TensorProto.FLOAT)
    node('Mul', ['whwhf', 'parts'], 'box')
    node('Unsqueeze', ['scores2', 'two'], 'rows')  # (B, 2, 1)
    node('Mul', ['rows', 'nothing'], 'blank')
    node('Add', ['blank', 'box'], 'boxes2')
    node('Squeeze', ['blank', 'two'], 'blank2')
    node('Add', ['blank2', 'names'], 'labelsf')
    constants.append(one('names', TensorProto.FLOAT, [2], [1., -1.]))
    node('Cast', ['labelsf'], 'labels2', to=TensorProto.INT64)
    outputs = dict(boxes=TensorProto.FLOAT, scores=TensorProto.FLOAT, labels=TensorProto.INT64)
    if masks == 'boxes':
        node('Unsqueeze', ['blank', 'last'], 'blank4')
        constants.append(one('last', TensorProto.INT64, [1], [3]))
        node('Add', ['blank4', 'grid'], 'masks2')
        outputs['masks'] = TensorProto.FLOAT
    elif masks == 'image':
        node('Slice', ['image', 'zero', 'one', 'one'], 'red')  # (B, 1, H, W): pixels with red are the object
        node('Concat', ['red', 'red'], 'reds', axis=1)
        node('Cast', ['reds'], 'masks2', to=TensorProto.UINT8)
        outputs['masks'] = TensorProto.UINT8
    for name in outputs:
        node(*(('Squeeze', [f'{name}2', 'zero']) if single else ('Identity', [f'{name}2'])), name)
    ranks = dict(boxes=['n', 2, 4], scores=['n', 2], labels=['n', 2], masks=['n', 2, None, None])
    ranks = {name: sides[1:] if single else sides for name, sides in ranks.items()}
    graph = helper.make_graph(
        nodes, 'detector', [helper.make_tensor_value_info('image', TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info(name, kind, ranks[name]) for name, kind in outputs.items()], constants)
    about = {**dict(classes=CLASSES, shape=shape, padding=[0.] * 3), **metadata}
    if file_format == 2:
        about.update(format=2, task='detector', dynamic=dynamic, preprocess=preprocess, masks=masks)
    _save(onnx, helper, graph, path, about)


def write_classifier(path, preprocess=(dict(load='color'), dict(resize=[16, 16], keep_ratio=False)), **metadata):
    """Write a classifier whose scores are the shares of red, green and blue in the image."""
    import onnx
    from onnx import TensorProto, helper
    nodes = [helper.make_node('ReduceMean', ['image', 'axes'], ['means'], keepdims=0),
             helper.make_node('ReduceSum', ['means', 'one'], ['sum'], keepdims=1),
             helper.make_node('Div', ['means', 'sum'], ['scores'])]
    graph = helper.make_graph(
        nodes, 'classifier', [helper.make_tensor_value_info('image', TensorProto.FLOAT, ['b', 3, 16, 16])],
        [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['n', 3])],
        [helper.make_tensor('axes', TensorProto.INT64, [2], [2, 3]),
         helper.make_tensor('one', TensorProto.INT64, [1], [1])])
    _save(onnx, helper, graph, path, dict(format=2, task='classifier', classes=CLASSES, shape=[16, 16],
                                          preprocess=preprocess, padding=[0] * 3, **metadata))


def _save(onnx, helper, graph, path, about):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    onnx.checker.check_model(model)
    for key, value in about.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(model, str(path))


def noise(height, width, seed=0):
    """Return an image (H, W, 3) uint8 of blocks with some noise."""
    random = np.random.default_rng(seed)
    blocks = random.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    image = blocks.repeat(8, 0).repeat(8, 1)[:height, :width].astype(int)
    return (image + random.integers(-20, 21, image.shape)).clip(1, 255).astype(np.uint8)
