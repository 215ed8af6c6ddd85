"""Fixtures of all test files."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True, scope='module')
def reset_default_scope():
    """Reset mmengine's global default scope after each file, so that it does not affect the next one."""
    yield
    DefaultScope._instance_dict.clear()
