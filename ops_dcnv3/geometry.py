"""Static arguments of DCNv3 and the sampling positions and shapes that follow from them (arXiv 2211.05778)."""

from __future__ import annotations

import math
from typing import NamedTuple


class Geometry(NamedTuple):
    """Static arguments of the operator, in its order."""

    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    pad_h: int
    pad_w: int
    dilation_h: int
    dilation_w: int
    group: int
    group_channels: int
    offset_scale: float
    remove_center: bool

    @property
    def num_taps(self) -> int:
        """Number of sampling points for each output pixel and group."""
        return self.kernel_h * self.kernel_w - int(self.remove_center)

    def taps(self) -> list[tuple[int, int]]:
        """Return the cell (column, row) of every tap; columns are the outer loop, as in official checkpoints."""
        cells = [(i, j) for i in range(self.kernel_w) for j in range(self.kernel_h)]
        if self.remove_center:
            del cells[len(cells) // 2]
        return cells

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of the output for an input of ``height`` x ``width``."""
        return ((height + 2 * self.pad_h - (self.dilation_h * (self.kernel_h - 1) + 1)) // self.stride_h + 1,
                (width + 2 * self.pad_w - (self.dilation_w * (self.kernel_w - 1) + 1)) // self.stride_w + 1)

    def tap_origin(self, column: int, row: int) -> tuple[float, float]:
        """Return (x, y) of a tap without offset for the output pixel (0, 0), in pixels of the unpadded input.

        ``offset_scale`` scales the dilation grid about its center as well as the offsets.
        """
        scale = self.offset_scale
        center_x = (self.dilation_w * (self.kernel_w - 1)) >> 1
        center_y = (self.dilation_h * (self.kernel_h - 1)) >> 1
        return (center_x * (1 - scale) - self.pad_w + column * self.dilation_w * scale,
                center_y * (1 - scale) - self.pad_h + row * self.dilation_h * scale)

    def check(self) -> None:
        """Raise ValueError naming the invalid argument."""
        for name, least in (('kernel_h', 1), ('kernel_w', 1), ('stride_h', 1), ('stride_w', 1), ('pad_h', 0),
                            ('pad_w', 0), ('dilation_h', 1), ('dilation_w', 1), ('group', 1), ('group_channels', 1)):
            if getattr(self, name) < least:
                raise ValueError(f'dcnv3: {name} is {getattr(self, name)}; it must be at least {least}')
        # not math.isfinite: with torch.compile(dynamic=True) the number is a symbol
        if not abs(self.offset_scale) < math.inf:
            raise ValueError(f'dcnv3: offset_scale is {self.offset_scale}; it must be a finite number')
        if self.remove_center and (self.kernel_h != self.kernel_w or self.kernel_h % 2 == 0):
            raise ValueError(f'dcnv3: remove_center needs an odd square kernel, not {self.kernel_h}x{self.kernel_w}')
