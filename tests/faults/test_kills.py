"""Training that is killed while it saves a checkpoint; ``make soak`` repeats it 50 times."""

import pytest

from tests.faults.soak import soak_kills


@pytest.mark.timeout(900)
def test_killed_runs_can_be_resumed_and_end_equal(tmp_path):
    counts = soak_kills(2, tmp_path)
    assert counts['kills'] == 2 and counts['failed processes'] == 0
