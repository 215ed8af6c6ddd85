"""Tiny models with random weights, and applications and a real server for them."""

import contextlib
import io
import threading

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image

from tests.end_to_end.tiny_classes import CONFIG
from tests.prediction.conftest import detector, images, run_folder  # noqa: F401  (fixtures)
from vitdet_plugin.api import Inferencer
from vitdet_plugin.config.loading import load_config


def image_bytes(kind: str = 'PNG', size: tuple[int, int] = (100, 60), seed: int = 0, **options) -> bytes:
    """An image file with colored blocks; ``size`` is width and height."""
    blocks = np.random.default_rng(seed).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope='session')
def classifier():
    cfg = load_config(str(CONFIG))
    init_default_scope('mmpretrain')
    from mmpretrain.registry import MODELS
    torch.manual_seed(0)
    return Inferencer(MODELS.build(cfg.model), cfg, ('x', 'y', 'z'))


@pytest.fixture(scope='session')
def detector_client(detector):  # noqa: F811
    return make_client(detector, max_bytes=4 * 10**6, max_pixels=2 * 10**6)


@pytest.fixture(scope='session')
def classifier_client(classifier):
    return make_client(classifier)


def make_client(model, **settings):
    pytest.importorskip('starlette', reason='the extra "web" is not installed')
    testclient = pytest.importorskip('starlette.testclient', reason='the test client requires httpx2 or httpx',
                                     exc_type=(ImportError, RuntimeError))
    from vitdet_plugin.serving.app import create_app
    from vitdet_plugin.serving.settings import Settings
    return testclient.TestClient(create_app(model, Settings(**settings), 'fruit'), 'http://localhost')


@contextlib.contextmanager
def running_server(model, **settings):
    """Serve a model in a thread; yields the URL."""
    from vitdet_plugin.serving.app import create_app
    from vitdet_plugin.serving.server import address_of, make_server, open_socket
    from vitdet_plugin.serving.settings import Settings
    with open_socket('127.0.0.1', 0) as opened:
        server = make_server(create_app(model, Settings(**settings), 'fruit'))
        thread = threading.Thread(target=server.run, kwargs=dict(sockets=[opened]))
        thread.start()
        try:
            yield address_of(opened)
        finally:
            server.should_exit = True
            thread.join()
