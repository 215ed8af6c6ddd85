import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.end_to_end.tiny_set import CONFIG, load_tool
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.api import Inferencer
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.onnx import TOLERANCE, OnnxClassifier, export_onnx
from vitdet_plugin.export.references import relative_difference

runtime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')


def test_a_classifier_predicts_the_same_from_its_file(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'a set', per_class=1)
    config, weights = write_classifier(tmp_path, root)
    out = tmp_path / 'my model.onnx'
    command = load_tool('export/onnx').main
    assert command([config, weights, '--out', str(out)]) == 0
    assert 'input 1 x 3 x 32 x 48' in capsys.readouterr().out
    exported, loaded = OnnxClassifier(out), load_model(config, weights, 'cpu')
    assert exported.classes == list(CLASSES) and exported.shape == (32, 48)
    from vitdet_plugin.engine.inference import TestPipeline
    for file in sorted(root.rglob('*.png')):
        packed = TestPipeline(loaded.cfg)(file)
        with torch.no_grad():
            expected = loaded.model.test_step(dict(inputs=[packed['inputs']],
                                                   data_samples=[packed['data_samples']]))[0].pred_score
        np.testing.assert_allclose(exported(file), expected.numpy(), atol=1e-5)
        found, = Inferencer.load(out).predict(file)
        np.testing.assert_allclose(found.scores, np.sort(expected.numpy())[::-1], atol=1e-5)
        assert found.name == CLASSES[int(expected.argmax())]
    assert command([config, weights, '--shape', '30', '31', '--out', str(out)]) == 2
    assert 'patch_size=8' in capsys.readouterr().err


def test_backbone_and_neck_of_a_detector(tmp_path):
    init_default_scope('mmdet')
    loaded = load_model(Config.fromfile(CONFIG), None, 'cpu')
    assert export_onnx(loaded, tmp_path / 'features.onnx', (64, 96), features=True) < 1e-4
    session = runtime.InferenceSession(str(tmp_path / 'features.onnx'), providers=['CPUExecutionProvider'])
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 64, 96)).astype(np.float32)
    found = session.run(None, dict(image=image))
    assert [each.name for each in session.get_outputs()] == [f'map_{level}' for level in range(5)]
    plain = torch.from_numpy(image[0, ::-1].copy()).byte()  # BGR, as pipelines load
    from mmdet.structures import DetDataSample
    sample = DetDataSample(metainfo=dict(img_shape=(64, 96)))
    with torch.no_grad():
        batch = loaded.model.data_preprocessor(dict(inputs=[plain], data_samples=[sample]), False)
        expected = loaded.model.extract_feat(batch['inputs'])
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-4 * float(b.abs().max()))
    with pytest.raises(UserError, match='not a classifier written by'):
        OnnxClassifier(tmp_path / 'features.onnx')
    with pytest.raises(UserError, match='neither a detector nor a classifier'):
        Inferencer.load(tmp_path / 'features.onnx')


@pytest.mark.parametrize('found, says', [([1.0, 2.0], 0.0), ([1.0, 2.2], 0.1), ([1.0, float('nan')], float('nan'))])
def test_difference_is_relative_to_the_largest_value(found, says):
    value = relative_difference(np.array(found), torch.tensor([1.0, 2.0], dtype=torch.float64))
    assert value == pytest.approx(says, nan_ok=True)
    assert not (value > 0 or np.isnan(value)) or not value <= TOLERANCE


def test_a_missing_file():
    with pytest.raises(UserError, match='does not exist'):
        OnnxClassifier('none.onnx')
