"""Methods of mmdet's heads that a class of the user overrides."""

from __future__ import annotations

from typing import Any


def keeps(head: Any, base: type, *methods: str) -> bool:
    """Whether the methods of a head are those of ``base``, so that code which does not call them computes the same."""
    return all(getattr(type(head), name) is getattr(base, name) for name in methods)
