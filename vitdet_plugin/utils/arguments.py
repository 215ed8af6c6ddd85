"""Checks of arguments of constructors; errors name the argument and its value."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from math import inf
from numbers import Integral, Real
from typing import Any

from vitdet_plugin.errors import UserError


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or NumPy."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a real number, of Python or NumPy."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_whole(least: int, **values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is not a whole number of at least ``least``."""
    for name, value in values.items():
        if not is_whole(value) or value < least:
            raise UserError(f'{name}={value!r} must be a whole number of at least {least}')


def check_range(least: float, most: float, **values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is not a number from ``least`` to ``most``."""
    for name, value in values.items():
        if not is_number(value) or not least <= value <= most:
            limits = f' of at least {least}' if most == inf else f' from {least} to {most}'
            raise UserError(f'{name}={value!r} must be a number{"" if least == -inf else limits}')


def check_positive(**values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is not a number above 0."""
    for name, value in values.items():
        if not is_number(value) or not 0 < value < inf:
            raise UserError(f'{name}={value!r} must be a number above 0')


def check_interval(least: float, most: float, **values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is not an ascending pair of numbers from ``least`` to ``most``."""
    check_lengths(2, **values)
    for name, value in values.items():
        check_range(least, most, **{f'{name}[0]': value[0]})
        check_range(value[0], most, **{f'{name}[1]': value[1]})


def check_sizes(length: int | None, /, least: int = 1, **values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is not a list of whole numbers of at least ``least``.

    Args:
        length: How many there must be; None for one or more.
    """
    for name, value in values.items():
        if not isinstance(value, (list, tuple)) or len(value) != (length or len(value) or 1) \
                or not all(is_whole(each) and each >= least for each in value):
            count = '' if length is None else f'{length} '
            raise UserError(f'{name}={value!r} must be a list of {count}whole numbers of at least {least}')


def check_keys(known: Collection[str], **values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is neither None nor a dict with keys of ``known``."""
    for name, value in values.items():
        if value is not None and (not isinstance(value, Mapping) or not set(value) <= set(known)):
            raise UserError(f'{name}={value!r} must be a dict; it takes {", ".join(known)}')


def check_lengths(length: int, **values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is not a list or tuple of ``length`` values."""
    for name, value in values.items():
        if not isinstance(value, (list, tuple)) or len(value) != length:
            raise UserError(f'{name}={value!r} must be a list of length {length}')


def check_indexes(count: int, **values: Any) -> None:
    """Raise ``UserError`` if one of the arguments is not a list of numbers from 0 to ``count`` - 1."""
    for name, value in values.items():
        if not isinstance(value, (list, tuple, range, set)) \
                or not all(is_whole(i) and 0 <= i < count for i in value):
            raise UserError(f'{name}={value!r} must be a list of numbers from 0 to {count - 1}')


def check_heads(num_heads: Any, **widths: Any) -> None:
    """Raise ``UserError`` if a width, or ``num_heads``, is not positive, or the heads do not divide the width."""
    check_whole(1, num_heads=num_heads, **widths)
    for name, width in widths.items():
        if width % num_heads:
            raise UserError(f'{name}={width} is not a multiple of num_heads={num_heads}')
