"""All feature maps of a backbone as one tensor, for class activation maps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MapConcat(nn.Module):
    """Pass the feature maps of a backbone through one module as a single tensor, so that one hook receives all of them.

    To form one map, coarser maps are enlarged to the finest one and concatenated along the channels. Their values are
    scaled down so that the sum of activation times gradient over all locations is that of the original map.

    Args:
        every_map: Whether to use all maps instead of the last one.
    """

    def __init__(self, every_map: bool) -> None:
        super().__init__()
        self.every_map = every_map
        self._shapes: list[torch.Size] = []

    def replace(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Return equal maps that are computed from the output of this module."""
        kept, used = ((), maps) if self.every_map else (maps[:-1], maps[-1:])
        self._shapes = [each.shape for each in used]
        row = self(torch.cat([each.flatten(1) for each in used], 1))
        return kept + self._split(row)

    def forward(self, row: Tensor) -> Tensor:
        return row

    def as_map(self, row: Tensor) -> Tensor:
        """Convert values of shape ``(B, N)`` to one map of shape ``(B, sum of C_i, H, W)`` at the finest resolution."""
        maps = self._split(row)
        finest = max((each.shape[-2:] for each in maps), key=lambda hw: hw[0] * hw[1])
        factors = [(each.shape[-2] * each.shape[-1] / (finest[0] * finest[1])) ** 0.5 for each in maps]
        return torch.cat([F.interpolate(each.float(), size=finest) * factor
                          for each, factor in zip(maps, factors)], 1)

    def _split(self, row: Tensor) -> tuple[Tensor, ...]:
        sizes = [shape[1:].numel() for shape in self._shapes]
        return tuple(part.unflatten(1, shape[1:]) for part, shape in zip(row.split(sizes, 1), self._shapes))
