"""What every test file gets."""

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True, scope='module')
def no_scope_left_behind():
    """mmengine's default scope is global: what a file sets must not decide where the next one's types are looked up."""
    before = set(DefaultScope._instance_dict)
    yield
    for name in set(DefaultScope._instance_dict) - before:
        del DefaultScope._instance_dict[name]
