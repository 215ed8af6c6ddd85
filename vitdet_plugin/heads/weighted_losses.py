"""Losses of a part of a detector with a weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def weighted_losses(found: Mapping[str, Any], weight: float) -> dict[str, Any]:
    """Multiply the losses (tensors or lists of them, names with ``loss``) by a weight; accuracies stay as they are."""
    return {name: _scaled(value, weight) if 'loss' in name else value for name, value in found.items()}


def _scaled(value: Any, weight: float) -> Any:
    return [each * weight for each in value] if isinstance(value, (list, tuple)) else value * weight
