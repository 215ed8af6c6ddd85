"""Fixtures of all test files."""

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings
from mmengine.registry import DefaultScope

import vitdet_plugin
from tests.devices import device  # noqa: F401

# no test downloads from the internet: port 9 of loopback refuses connections
os.environ['VITDET_MIRROR'] = 'http://127.0.0.1:9'
os.environ.pop('VITDET_WEIGHTS', None)
# the same examples in every run: no test fails because the machine is slow, or for one run in hundreds
settings.register_profile('vitdet', deadline=None, derandomize=True)
settings.load_profile('vitdet')
# minutes of few tests: started first, so that no process ends long after the other
_LONG_FILES = ('backbones/test_captured_graphs.py', 'test_tutorials.py', 'test_wheel.py', 'faults/test_exact_resume.py',
               'ops/test_triton.py', 'end_to_end/test_ranks.py', 'faults/test_ranks.py', 'faults/test_stopping.py',
               'test_imports.py', 'faults/test_bad_data.py', 'test_style.py', 'test_documents.py')
vitdet_plugin.register_all()  # in every test, in whatever order the test files are imported


def pytest_configure(config):
    if hasattr(config.option, 'loadscopereorder'):  # of pytest-xdist: files with the most tests first
        config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Move long files to the front; the order of tests within a file, and of the others, is kept."""
    order = {Path(__file__).parent / name: index for index, name in enumerate(_LONG_FILES)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


def pytest_collection_finish():
    """Exclude what was imported from garbage collection: mmengine collects for every data set, 0.7 s each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='module')
def reset_default_scope():
    """Reset mmengine's global default scope after each file, so that it does not affect the next one."""
    yield
    DefaultScope._instance_dict.clear()
