"""Exported files in a benchmark: boxes in pixels of the image, batches, and both libraries."""

import cv2
import numpy as np
import pytest

from tests.bench.exported import BOX, write_classifier, write_detector
from vitdet_plugin.bench.runners import FileRunner, step
from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.exported_model import ExportedModel

pytest.importorskip('onnxruntime')


@pytest.fixture(scope='module')
def red(tmp_path_factory):
    """An image of 128 x 64 pixels (width x height), all red."""
    path = tmp_path_factory.mktemp('images') / 'red.png'
    cv2.imwrite(str(path), np.full((64, 128, 3), (0, 0, 255), np.uint8))
    return path


@pytest.mark.parametrize('library', ['onnxruntime', 'openvino'])
def test_a_detector(tmp_path, red, library):
    pytest.importorskip(library)
    runner = FileRunner(ExportedModel(write_detector(tmp_path / 'a.onnx', 'batch'), 1, library=library))
    assert runner.batch is None and runner.classes == ['apple', 'lime', 'plum'] and not runner.is_classifier
    packs = [runner.preprocess(red), runner.preprocess(cv2.imread(str(red)))]
    assert runner.shape(packs[0]) == (64, 64) and packs[0]['prepared'].image.shape == (32, 64, 3)
    results, seconds = runner.predict(packs, 0.3)
    assert seconds > 0 and len(results) == 2
    for found in results:  # the image was made half as large, and red is half of the padded input
        np.testing.assert_allclose(found.boxes, [2 * np.minimum(BOX, [64, 32, 64, 32])], atol=1e-4)
        np.testing.assert_allclose(found.scores, [0.5], atol=1e-3)
        assert found.labels.tolist() == [1]
    assert len(runner.predict(packs, 0.6)[0][0]) == 0
    assert min(step(runner, [red, red], 0.3)) >= 0


def test_a_larger_image_is_made_smaller(tmp_path, red):
    steps = [dict(load='color'), dict(resize=[256, 256], keep_ratio=True)]
    runner = FileRunner(ExportedModel(write_detector(tmp_path / 'a.onnx')), steps)
    results, _ = runner.predict([runner.preprocess(red)], 0.3)
    np.testing.assert_allclose(results[0].boxes, [2 * np.minimum(BOX, [64, 32, 64, 32])], atol=1e-4)


def test_a_classifier(tmp_path, red):
    runner = FileRunner(ExportedModel(write_classifier(tmp_path / 'a.onnx')))
    assert runner.batch == 1 and runner.is_classifier
    results, _ = runner.predict([runner.preprocess(red)], 0.3)
    np.testing.assert_allclose(results[0], [1, 0, 0], atol=1e-6)


def test_a_library_that_cannot_run_the_file(tmp_path):
    (tmp_path / 'a.xml').write_text('<net/>')
    with pytest.raises(UserError, match="library='onnxruntime' cannot run .*a.xml; choose openvino"):
        ExportedModel(tmp_path / 'a.xml', library='onnxruntime')
