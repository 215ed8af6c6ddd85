"""A training that is killed while it saves; `make soak` does it 50 times."""

import pytest

from tests.faults.soak import soak_kills


@pytest.mark.timeout(900)
def test_killed_at_random_moments_it_always_resumes_and_ends_equal(tmp_path):
    counts = soak_kills(2, tmp_path)
    assert counts['kills'] == 2 and counts['failed lives'] == 0
