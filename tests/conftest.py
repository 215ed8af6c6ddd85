"""Fixtures of all test files."""

import pytest
from mmengine.registry import DefaultScope

import vitdet_plugin

vitdet_plugin.register_all()  # in every test, in whatever order the test files are imported


@pytest.fixture(autouse=True, scope='module')
def reset_default_scope():
    """Reset mmengine's global default scope after each file, so that it does not affect the next one."""
    yield
    DefaultScope._instance_dict.clear()
