"""The range of thresholds of scores."""

from numbers import Real
from typing import Any

from vitdet_plugin.errors import UserError


def check_score(score: Any, shown: str) -> None:
    """Check that a threshold of scores is a number from 0 to 1.

    Args:
        score: The threshold.
        shown: Its name and value, for the message.

    Raises:
        UserError: It is another number, NaN, or not a number.
    """
    if not isinstance(score, Real) or not 0 <= score <= 1:
        raise UserError(f'{shown}: give a number from 0 to 1')
