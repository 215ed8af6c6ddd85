import pytest

from tests.end_to_end.tiny_set import write_tiny_set


@pytest.fixture(scope='session')
def tiny_set(tmp_path_factory):
    """Write a dataset of seven images: four batches of two per epoch on one rank, two on each of two ranks."""
    return write_tiny_set(tmp_path_factory.mktemp('tiny') / 'set', images=7)
