"""What every test file gets."""

import pytest
from mmengine.registry import DefaultScope

import vitdet_plugin

vitdet_plugin.register_all()  # in every test, in whatever order the test files are imported


@pytest.fixture(autouse=True, scope='module')
def no_scope_left_behind():
    """mmengine's default scope is global: what a file sets must not decide where the next one's types are looked up."""
    yield
    DefaultScope._instance_dict.clear()
