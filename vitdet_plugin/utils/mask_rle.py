"""Masks as COCO's compressed run-length encoding (RLE): a few hundred bytes instead of a boolean for each pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np
from pycocotools import mask as mask_utils

from vitdet_plugin.runtime.masks import Rle, encode_region


def encode_masks(masks: np.ndarray) -> list[Rle]:
    """Encode masks (N, H, W); pixels other than 0 belong to the object."""
    return [plain_rle(mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8))) for mask in masks != 0]


def encode_annotation(mask: list | dict, shape: tuple[int, int] | None = None) -> Rle:
    """Return a valid mask of a COCO file, polygons or an RLE of either kind, as compressed RLE.

    Args:
        mask: Lists of coordinates (x1, y1, x2, y2, ...) in pixels, or an RLE whose counts are numbers or text.
        shape: Height and width of the image, for polygons.
    """
    if isinstance(mask, list):
        assert shape is not None
        return plain_rle(mask_utils.merge(mask_utils.frPyObjects(mask, *map(int, shape))))
    if isinstance(mask['counts'], list):
        return plain_rle(mask_utils.frPyObjects(mask, *mask['size']))
    return dict(size=list(mask['size']), counts=mask['counts'])


def decode_mask(rle: Rle) -> np.ndarray:
    """Return the mask (H, W) bool of an RLE."""
    return mask_utils.decode(rle).astype(bool)


def move_rle(rle: Rle, left: int, top: int, shape: tuple[int, int]) -> Rle:
    """Return the RLE in an image of another shape, in which its first pixel is at column ``left`` and row ``top``."""
    x, y, w, h = (int(value) for value in mask_utils.toBbox(rle))
    region = decode_mask(rle)[y:y + h, x:x + w]
    return encode_region(region, left + x, top + y, shape)


def mask_areas(rles: Sequence[Rle]) -> np.ndarray:
    """Return the number of pixels (N,) of each mask."""
    return np.asarray(mask_utils.area(list(rles)), np.int64).reshape(-1)


def plain_rle(rle: dict) -> Rle:
    """Return an RLE of pycocotools with text and plain numbers, as JSON needs it."""
    return dict(size=[int(side) for side in rle['size']], counts=rle['counts'].decode('ascii'))


class RleMasks(Sequence):
    """Masks that are decoded one at a time, for programs that iterate over an array (N, H, W).

    Args:
        rles: Masks of one image; None, for an object without a mask, is decoded to an empty one.
    """

    def __init__(self, rles: Sequence[Rle | None]) -> None:
        self.rles = list(rles)

    def __len__(self) -> int:
        return len(self.rles)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray) -> RleMasks: ...

    def __getitem__(self, index):
        if isinstance(index, (int, np.integer)):
            rle = self.rles[index]
            return np.zeros((1, 1), bool) if rle is None else decode_mask(rle)
        return RleMasks([self.rles[i] for i in np.arange(len(self.rles))[index]])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))
