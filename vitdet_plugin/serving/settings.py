"""Settings of the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.tiles import Tiling
from vitdet_plugin.utils.scores import check_score


@dataclass(frozen=True)
class Settings:
    """Settings of the server.

    Attributes:
        score_thr: Lowest score of objects, unless a request gives another one.
        tile: Side in pixels of the tiles in which larger images are predicted; None for whole images.
        overlap: Part of a tile that it shares with the next one.
        max_bytes: Most bytes of an image file.
        max_pixels: Most pixels of an image.
        hosts: Names by which the server may be addressed, next to ``localhost`` and IP addresses.

    Raises:
        UserError: A value outside of its range.
    """

    score_thr: float = 0.3
    tile: int | None = None
    overlap: float = 0.2
    max_bytes: int = 20 * 10**6
    max_pixels: int = 50 * 10**6
    hosts: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_score(self.score_thr, f'--score-thr {self.score_thr:g}')
        if not self.max_bytes >= 1000:
            raise UserError(f'--max-mb {self.max_bytes / 1e6:g}: give a number of megabytes, such as 20')
        if not self.max_pixels >= 1000:
            raise UserError(f'--max-mp {self.max_pixels / 1e6:g}: give a number of megapixels, such as 50')
        if self.tile is not None:
            Tiling(self.tile, self.overlap)
