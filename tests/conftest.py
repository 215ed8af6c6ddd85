"""Fixtures of all test files."""

import gc
import os

import pytest
from mmengine.registry import DefaultScope

import vitdet_plugin
from tests.devices import device  # noqa: F401

# no test downloads from the internet: port 9 of loopback refuses connections
os.environ['VITDET_MIRROR'] = 'http://127.0.0.1:9'
vitdet_plugin.register_all()  # in every test, in whatever order the test files are imported


def pytest_collection_finish():
    """Exclude what was imported from garbage collection: mmengine collects for every data set, 0.7 s each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='module')
def reset_default_scope():
    """Reset mmengine's global default scope after each file, so that it does not affect the next one."""
    yield
    DefaultScope._instance_dict.clear()
