"""The message of a refused input."""

import pytest

from vitdet_plugin.errors import UserError


def refusal(call, *arguments):
    """Call a function that refuses its arguments; return its message, which is one line."""
    with pytest.raises(UserError) as caught:
        call(*arguments)
    line = str(caught.value)
    assert '\n' not in line
    return line
