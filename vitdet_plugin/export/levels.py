"""Feature maps of several levels as deformable attention reads them, with sizes that may be symbols of a graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.utils.exporting import may_vary


def padded_hw(image_hw: tuple[int, int], divisor: int) -> tuple[int, int]:
    """Return height and width rounded up to multiples of ``divisor``, in the form that torch's exporter simplifies."""
    height, width = ((side + divisor - 1) // divisor * divisor for side in image_hw)
    return height, width


class Levels:
    """The levels of a batch of images that were padded on the right and at the bottom.

    Args:
        maps: Feature maps (B, C, h, w).
        image_hw: Height and width of the images in pixels; None to use the padding like the images.
        divisor: The images were padded to a multiple of this number of pixels.

    Attributes:
        sizes: Height and width of each map; stands for the tensor ``spatial_shapes`` of mmdet.
        padding: (B, h, w) for each map, True for cells of the padding; None if no image can have one.
        valid_ratios: (B, levels, 2), share of the columns and rows of each map that are not padding.
    """

    def __init__(self, maps: Sequence[Tensor], image_hw: tuple[int, int] | None = None, divisor: int = 1) -> None:
        self.batch, self.like = maps[0].shape[0], maps[0]
        self.sizes = Sizes([(each.shape[2], each.shape[3]) for each in maps])
        self.padding: list[Tensor] | None = None
        self._used = list(self.sizes)  # height and width of each map without padding
        padded = padded_hw(image_hw, divisor) if image_hw and divisor > 1 else None
        if image_hw and padded and (may_vary(*image_hw) or padded != tuple(image_hw)):
            # mmdet resizes a mask of the images to each map by nearest neighbors
            self._used = [tuple((side * size + whole - 1) // whole for side, size, whole in zip(image_hw, each, padded))
                          for each in self.sizes]
            self.padding = [self._outside(each, used) for each, used in zip(self.sizes, self._used)]
        ratios = [torch.stack([self._number(used[axis]) / size[axis] for axis in (1, 0)])
                  for size, used in zip(self.sizes, self._used)]
        self.valid_ratios = torch.stack(ratios).expand(self.batch, -1, -1)

    @property
    def mask(self) -> Tensor | None:
        """``padding`` as (B, N) for the cells of all levels."""
        return None if self.padding is None else torch.cat([each.flatten(1) for each in self.padding], 1)

    def positions(self, encoding: nn.Module, embeddings: Tensor) -> Tensor:
        """Return the position encodings of all cells, (B, N, C).

        Args:
            encoding: mmdet's ``SinePositionalEncoding``.
            embeddings: (levels, C), added to the cells of each level.
        """
        encoded = [encoding(padding) for padding in self.padding] if self.padding is not None else [
            encoding(None, input=self.like.new_zeros(self.batch, 1, *size)) for size in self.sizes]
        return torch.cat([each.flatten(2).transpose(1, 2) + embedding
                          for each, embedding in zip(encoded, embeddings)], 1)

    def reference_points(self) -> Tensor:
        """Return the centers of all cells in each level, (B, N, levels, 2), x and y in fractions of that map."""
        return self._centers()[:, None] * self.valid_ratios[:, None]

    def proposals(self) -> tuple[Tensor, Tensor]:
        """Return a square box for each cell, larger on higher levels, as mmdet's DETRs with two stages propose it.

        Returns:
            Boxes (1, N, 4) as inverse sigmoids of center and size in fractions of the image, infinite for cells that
            are not used; and whether a cell is used, (1 or B, N, 1).
        """
        centers = self._centers()
        counts = [height * width for height, width in self.sizes]
        sides = torch.cat([torch.full((count, 2), 0.05 * 2.0**level).to(centers)
                           for level, count in enumerate(counts)])
        boxes = torch.cat((centers, sides), 1)[None]
        used = ((boxes > 0.01) & (boxes < 0.99)).all(2, keepdim=True)
        if (mask := self.mask) is not None:
            used = used & ~mask[..., None]
        return torch.log(boxes / (1 - boxes)).masked_fill(~used, float('inf')), used

    def _centers(self) -> Tensor:
        """Return the centers (x, y) of the cells of all levels in fractions of the images, (N, 2)."""
        points = []
        for (height, width), (rows, columns) in zip(self.sizes, self._used):
            y, x = ((torch.arange(size, device=self.like.device).to(self.like) + 0.5) / used
                    for size, used in ((height, rows), (width, columns)))
            points.append(torch.stack((x.expand(height, -1), y[:, None].expand(-1, width)), 2).flatten(0, 1))
        return torch.cat(points)

    def _outside(self, size: tuple[int, int], used: tuple[int, int]) -> Tensor:
        y, x = (torch.arange(each, device=self.like.device) >= count for each, count in zip(size, used))
        return (y[:, None] | x).expand(self.batch, -1, -1)

    def _number(self, value: int) -> Tensor:
        return torch.full((), value, dtype=self.like.dtype, device=self.like.device)


class Sizes:
    """Height and width of each level as whole numbers, where mmdet and mmcv index a tensor of shape ``(levels, 2)``.

    A captured graph cannot use the elements of a tensor as sizes.
    """

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, key: tuple[slice | EllipsisType, int]) -> Tensor | _Column:
        """Return the heights (``[..., 0]``) or widths (``[..., 1]``)."""
        leading, column = key
        numbers = [size[column] for size in self.sizes]
        if leading is Ellipsis:
            return torch.stack([torch.full((), each, dtype=torch.int64) for each in numbers])
        return _Column(numbers)


class _Column(list[int]):
    """Numbers whose product with another column has a sum, for a check in mmcv's module."""

    def __mul__(self, other: Any) -> Any:
        return _Sum(a * b for a, b in zip(self, other, strict=True))


class _Sum(list[int]):
    def sum(self) -> int:
        return sum(self)
