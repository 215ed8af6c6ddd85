"""Int8 files: which layers are in 8 bits, where calibration images come from, and what is reported."""

import json

import numpy as np
import pytest

from tests.datasets.tiny_classes import write_class_folders
from tests.runtime.small_files import write_detector
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.cli import export
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.calibration import calibration_images, list_images
from vitdet_plugin.runtime import load

onnx = pytest.importorskip('onnx', reason='the extra "onnx" is not installed')
runtime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')


def test_the_trunk_leaves_out_the_first_and_the_last_layers():
    from vitdet_plugin.export.graph import find_trunk
    make, weight = onnx.helper.make_node, onnx.numpy_helper.from_array(np.ones((4, 4), np.float32), 'w')
    nodes = [make('Sub', ['image', 'w'], ['a'], 'normalize'), make('MatMul', ['a', 'w'], ['b'], 'first'),
             make('Relu', ['b'], ['c'], 'relu'), make('MatMul', ['c', 'w'], ['d'], 'middle'),
             make('MatMul', ['d', 'd'], ['e'], 'attention'), make('MatMul', ['e', 'w'], ['f'], 'last'),
             make('MatMul', ['d', 'w'], ['g'], 'offsets'), make('GridSample', ['c', 'g'], ['h'], 'sample'),
             make('MatMul', ['h', 'w'], ['i'], 'other'), make('Softmax', ['f'], ['scores'], 'softmax')]
    graph = onnx.helper.make_graph(nodes, 'g', [], [], [weight])
    trunk = find_trunk(onnx.helper.make_model(graph))
    assert trunk.layers == {'middle'}
    assert trunk.nodes == {'first', 'relu', 'middle', 'attention', 'last', 'offsets', 'sample', 'other'}


def test_images_of_a_folder_and_of_a_coco_file(tmp_path):
    root = write_class_folders(tmp_path / 'set', per_class=2)
    files = list_images(str(root))
    assert len(files) == 6
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'annotations/a.json').write_text(json.dumps(dict(images=[
        dict(file_name=str(files[0].relative_to(root))), dict(file_name='missing.png')], categories=[dict(id=1)])))
    assert list_images(str(tmp_path / 'annotations/a.json')) == [files[0]]
    (tmp_path / 'annotations/lvis.json').write_text(json.dumps(dict(categories=[dict(id=1)], images=[
        dict(coco_url='http://images.cocodataset.org/' + str(files[1].relative_to(tmp_path / 'set')))])))
    assert list_images(str(tmp_path / 'annotations/lvis.json')) == [files[1]]
    (tmp_path / 'empty').mkdir()
    nowhere = '{"images": [{"file_name": "x.png"}], "categories": [{"id": 1}]}'
    for name, text, says in [('b.json', nowhere, 'none of its images exists'),
                             ('c.json', '[]', 'not a COCO file'), ('d.json', None, 'd.json does not exist'),
                             ('empty', None, 'the folder holds no images')]:
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=says):
            list_images(str(tmp_path / name))


def test_images_are_prepared_by_the_steps_of_the_file_and_padded(tmp_path):
    import cv2
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    (tmp_path / 'images').mkdir()
    cv2.imwrite(str(tmp_path / 'images/a.png'), image)
    write_detector(tmp_path / 'm.onnx', dynamic=(), preprocess=[dict(load='color')], shape=(24, 48), padding=[1, 2, 3])
    found, = calibration_images(str(tmp_path / 'images'), load(tmp_path / 'm.onnx'))
    assert found.shape == (1, 3, 24, 48) and found[0, :, 20, 0].tolist() == found[0, :, 0, 40].tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found[0, :, :20, :40], image[..., ::-1].transpose(2, 0, 1))


def test_the_command_reports_accuracy_and_speed(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'set', per_class=2)
    (tmp_path / 'run').mkdir()
    config, weights = write_classifier(tmp_path / 'run', root)
    out = tmp_path / 'm.onnx'
    capsys.readouterr()
    assert export.main([config, weights, '--out', str(out), '--int8', str(root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'classifier, opset 18, int8, input 1 x 3 x 32 x 48' in lines[0]
    assert 'layers in 8 bits, calibrated with ' in lines[1] and 'top-1' in lines[2] and ' int8 ' in lines[3]
    model = onnx.load(str(out))
    assert sum(node.op_type == 'QuantizeLinear' for node in model.graph.node) > 2
    assert {each.key for each in model.metadata_props} > {'classes', 'pipeline', 'precision'}
    session = runtime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    scores, = session.run(None, dict(image=np.full((1, 3, 32, 48), 100, np.float32)))
    assert abs(scores.sum() - 1) < 1e-3
