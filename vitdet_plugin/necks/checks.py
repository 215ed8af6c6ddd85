"""Checks of pyramids that are built from maps of a single stride."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.arguments import check_range, check_sizes, check_whole


def check_widths(in_channels: Any, out_channels: Any, scale_factors: Any) -> None:
    """Raise ``UserError`` if channels are not positive whole numbers, or ``scale_factors`` is not a list of numbers."""
    check_sizes(None, in_channels=in_channels if isinstance(in_channels, (list, tuple)) else [in_channels])
    check_whole(1, out_channels=out_channels)
    if not isinstance(scale_factors, (list, tuple)) or not scale_factors:
        raise UserError(f'scale_factors={scale_factors!r} must be a list of numbers, such as (4.0, 2.0, 1.0, 0.5)')
    for scale in scale_factors:
        check_range(0, math.inf, scale_factors=scale)


def doublings(scale: float) -> int:
    """Return how often a map is doubled to resize it by a scale factor; negative if it is halved.

    Raises:
        UserError: The scale factor is not a power of two.
    """
    if scale <= 0 or not math.log2(scale).is_integer():
        raise UserError(f'scale_factors contains {scale}, which is not a power of two; use values such as 4, 2, 1 and '
                        '0.5')
    return int(math.log2(scale))


def check_channels(x: Tensor, in_channels: int) -> None:
    """Check that a map (B, C, H, W) of the backbone has the channels that the neck expects.

    Raises:
        UserError: It has not.
    """
    if x.shape[1] != in_channels:
        raise UserError(f'the backbone returns a map of {x.shape[1]} channels, but the neck has '
                        f"in_channels={in_channels}; set the neck's in_channels to {x.shape[1]}")
