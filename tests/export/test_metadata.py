"""An exported file prepares images as the config does: its results are those of the PyTorch model."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.export.test_detectors import load, mask_rcnn
from tests.runtime.small_files import noise
from vitdet_plugin.api import Inferencer
from vitdet_plugin.export.comparison import difference_of_rows
from vitdet_plugin.export.metadata import file_metadata
from vitdet_plugin.export.modules import Preprocess
from vitdet_plugin.export.onnx import export_onnx

IMAGES = Path(__file__).resolve().parents[3] / 'shared/data/coco_mini/val2017'


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """The model in PyTorch and in a file, whose test pipeline makes images of one size."""
    pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
    pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')
    loaded = mask_rcnn()
    loaded.cfg.test_dataloader.dataset.pipeline[1] = dict(type='Resize', scale=(96, 64), interpolation='bicubic')
    out = tmp_path_factory.mktemp('export') / 'd.onnx'
    export_onnx(loaded, out, (64, 96))
    return Inferencer(loaded.model, loaded.cfg, loaded.classes or ()), Inferencer.load(out)


def assert_same(models, source, shape):
    expected, found = (model.predict(source, 0.01)[0] for model in models)
    assert len(expected) > 3 and found.shape == expected.shape == shape
    rows = [(each.boxes, each.scores, each.labels, each.masks) for each in (found, expected)]
    assert difference_of_rows(rows[0][:3], rows[1][:3], max(shape)) < 1e-4
    assert len(found) == len(expected)
    assert np.mean([(a != b).mean() for a, b in zip(rows[0][3], rows[1][3])]) < 1e-3


def test_files_and_arrays(models, tmp_path):
    image = noise(50, 110)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    assert_same(models, tmp_path / 'a.png', (50, 110))
    assert_same(models, image, (50, 110))


def test_real_images(models):
    if not IMAGES.is_dir():
        pytest.skip(f'{IMAGES} does not exist')
    for path in sorted(IMAGES.glob('*.jpg'))[:3]:
        assert_same(models, path, cv2.imread(str(path)).shape[:2])


def test_what_a_file_says():
    loaded = load()
    about = {key: json.loads(value) for key, value in file_metadata(
        loaded, (64, 96), Preprocess(loaded.model), dynamic=('batch',), masks='boxes').items()}
    assert (about['format'], about['task'], about['shape'], about['dynamic'], about['masks'], about['divisor']) == (
        2, 'detector', [64, 96], ['batch'], 'boxes', 32)
    assert about['preprocess'] == [dict(load='color', backend='cv2'), dict(
        resize=[64, 64], keep_ratio=True, interpolation='bilinear', backend='cv2')]
    assert about['mask_threshold'] == 0.5 and len(about['padding']) == 3 and about['pipeline'][1]['type'] == 'Resize'
