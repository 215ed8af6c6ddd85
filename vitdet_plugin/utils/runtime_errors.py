"""Errors of :mod:`vitdet_plugin.runtime`, which imports nothing of this package, as errors for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.errors import ModelError


@contextmanager
def model_errors(prefix: str = '') -> Iterator[None]:
    """Raise a :class:`ModelError` within this block as a :class:`UserError`.

    Args:
        prefix: Text before the message.
    """
    try:
        yield
    except ModelError as error:
        raise UserError(f'{prefix}{error}') from error
