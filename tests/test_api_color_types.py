"""Pipelines that load gray images or ignore EXIF: an image has the same result as a file, bytes and in memory."""

import io

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from tests.end_to_end.tiny_classes import CONFIG
from tests.serving.conftest import make_client
from vitdet_plugin.api import Inferencer
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.export.formats import export_model
from vitdet_plugin.export.request import ExportRequest

COLOR_TYPES = ('grayscale', 'grayscale_ignore_orientation', 'color_ignore_orientation', 'color')
ROTATED = 6  # of EXIF


@pytest.fixture(scope='module', params=COLOR_TYPES)
def model(request):
    channels = 1 if request.param.startswith('gray') else 3
    cfg = load_config(str(CONFIG), [f'model.backbone.in_channels={channels}'])
    cfg.model.data_preprocessor = dict(mean=[120.0] * channels, std=[60.0] * channels, to_rgb=channels == 3)
    cfg.test_dataloader.dataset.pipeline[0].color_type = request.param
    init_default_scope('mmpretrain')
    from mmpretrain.registry import MODELS
    torch.manual_seed(0)
    return Inferencer(MODELS.build(cfg.model).eval(), cfg, ('x', 'y', 'z'))


@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    """A JPEG file that declares a rotation."""
    path = tmp_path_factory.mktemp('photo') / 'a.jpg'
    blocks = np.random.default_rng(0).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = ROTATED
    Image.fromarray(blocks).resize((100, 60), Image.Resampling.NEAREST).save(path, quality=95, exif=exif)
    return path


def scores(found):
    return found.scores[np.argsort(found.labels)]


def test_files_bytes_and_images_in_memory_agree(model, photo):
    expected = scores(*model.predict(photo))
    assert model.color_type in COLOR_TYPES
    content = photo.read_bytes()
    for form in (content, io.BytesIO(content)):
        np.testing.assert_array_equal(scores(*model.predict(form)), expected)
    flag = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if 'ignore' in model.color_type else 0)
    bgr = cv2.imread(str(photo), flag)
    for form in (Image.open(photo), bgr, torch.from_numpy(bgr[..., ::-1].copy()).permute(2, 0, 1)):
        np.testing.assert_allclose(scores(*model.predict(form)), expected, atol=5e-3)  # another conversion to gray


def test_gray_arrays(model):
    gray = np.random.default_rng(1).integers(0, 255, (60, 100), dtype=np.uint8)
    expected = scores(*model.predict(gray))
    for form in (gray[..., None], np.repeat(gray[..., None], 3, 2), torch.from_numpy(gray)[None],
                 Image.fromarray(gray)):
        np.testing.assert_array_equal(scores(*model.predict(form)), expected)


def test_the_server(model, photo):
    client = make_client(model)
    answer = client.post('/predict?top=3', files=dict(file=('a.jpg', photo.read_bytes()))).json()
    expected, = model.predict(photo)
    assert answer['names'] == list(expected.names)
    np.testing.assert_allclose(answer['scores'], expected.scores, atol=1e-5)
    drawn = client.post('/predict?format=image', files=dict(file=('a.jpg', photo.read_bytes())))
    assert drawn.status_code == 200 and drawn.headers['content-type'] == 'image/jpeg'
    assert client.post('/preview', files=dict(file=('a.jpg', photo.read_bytes()))).status_code == 200


def test_the_exported_model(model, photo, tmp_path):
    pytest.importorskip('onnxruntime')
    loaded = LoadedModel(model.model, model.cfg, list(model.classes), True, None)
    export_model(loaded, ExportRequest('onnx', tmp_path / 'm.onnx', (32, 32)))
    exported = Inferencer.load(tmp_path / 'm.onnx')
    expected = scores(*model.predict(photo))
    for form in (photo, photo.read_bytes()):
        np.testing.assert_allclose(scores(*exported.predict(form)), expected, atol=1e-5)
        np.testing.assert_allclose(scores(*exported._model.model.predict([form])), expected, atol=1e-5)
    for form in (Image.open(photo), cv2.imread(str(photo), cv2.IMREAD_COLOR)):
        assert len(scores(*exported._model.model.predict([form]))) == 3
