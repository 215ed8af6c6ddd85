"""Checks of pyramids that are built from maps of a single stride."""

from __future__ import annotations

import math

from torch import Tensor

from vitdet_plugin.errors import UserError


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
