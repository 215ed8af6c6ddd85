"""Files of OpenVINO give the results of the ONNX file that they were made from."""

import numpy as np
import pytest

from tests.runtime.small_files import noise, write_classifier, write_detector
from vitdet_plugin.runtime import ModelError, load

openvino = pytest.importorskip('openvino', reason='the extra "openvino" is not installed')
pytest.importorskip('onnx', reason='the extra "openvino" is not installed')
pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')


def convert(path, section='vitdet_plugin'):
    model = openvino.convert_model(str(path))
    for key, value in load(path).session.metadata.items():
        model.set_rt_info(value, [section, key])
    openvino.save_model(model, str(path.with_suffix('.xml')), compress_to_fp16=False)
    return load(path), load(path.with_suffix('.xml'), threads=1)


def test_a_detector(tmp_path):
    write_detector(tmp_path / 'd.onnx', masks='boxes')
    images = [noise(48, 64), noise(64, 48, 1), noise(48, 64, 2)]
    for first, second in zip(*(model(images, 0, batch_size=2) for model in convert(tmp_path / 'd.onnx')), strict=True):
        np.testing.assert_allclose(first.boxes, second.boxes, atol=1e-3)
        np.testing.assert_allclose(first.scores, second.scores, atol=1e-5)
        assert first.names == second.names and (first.masks != second.masks).mean() < 1e-2


def test_a_classifier(tmp_path):
    write_classifier(tmp_path / 'c.onnx')
    first, second = (model(noise(20, 30))[0] for model in convert(tmp_path / 'c.onnx'))
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-5)
    assert first.names == second.names


def test_weights_that_are_missing(tmp_path):
    write_classifier(tmp_path / 'c.onnx')
    convert(tmp_path / 'c.onnx')
    (tmp_path / 'c.bin').unlink()
    with pytest.raises(ModelError, match='c.xml cannot be loaded .*Keep c.bin in the same folder'):
        load(tmp_path / 'c.xml')
