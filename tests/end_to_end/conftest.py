import pytest

from tests.end_to_end.tiny_set import write_tiny_set


@pytest.fixture(scope='session')
def tiny_set(tmp_path_factory):
    """Write a dataset of seven images, not a multiple of two ranks or of the batch size."""
    return write_tiny_set(tmp_path_factory.mktemp('tiny') / 'set', images=7)
