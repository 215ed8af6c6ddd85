"""Cut large images into overlapping tiles, so that small objects keep their size in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath

import numpy as np

from vitdet_plugin.coco.masks import mask_area
from vitdet_plugin.datasets.formats.base import SourceImage, SourceObject
from vitdet_plugin.datasets.image_reader import decode
from vitdet_plugin.errors import UserError
from vitdet_plugin.transforms.clip_polygons import clip_polygons
from vitdet_plugin.utils.distinct_names import distinct_names
from vitdet_plugin.utils.mask_rle import decode_mask, encode_annotation, encode_masks

OVERLAP = 0.2  # of the side, as vitdet predict --tile has it
_VISIBLE = 0.3  # share of the box that a tile must show of an object; the neighbor shows more of the others
_QUALITY = 95  # of JPEG


@dataclass
class Tile(SourceImage):
    """A part of an image.

    Attributes:
        file_name: Path below the folder of the tiles.
        corner: x and y of its upper left corner in the image, in pixels.
    """

    file_name: str = ''
    corner: tuple[int, int] = (0, 0)


def cut_images(images: Sequence[SourceImage], side: int, folder: str, keep_empty: bool) -> list[Tile]:
    """Return the tiles of images with the objects in them; nothing is written.

    Args:
        images: Images with objects.
        side: Width and height of a tile in pixels; smaller images remain whole.
        folder: First part of the file names.
        keep_empty: Whether to keep all tiles without objects; otherwise at most as many as there are with objects.
    """
    tiles: list[Tile] = []
    names = distinct_names([image.path for image in images])
    for image, name in zip(images, names):
        for x in starts(image.width, side):
            for y in starts(image.height, side):
                width, height = min(side, image.width - x), min(side, image.height - y)
                suffix = image.path.suffix.lower() if image.path.suffix.lower() in ('.jpg', '.jpeg') else '.png'
                tile = Tile(image.path, width, height, image.split,
                            file_name=f'{folder}/{name}_{x}_{y}{suffix}', corner=(x, y))
                tile.objects = [part for each in image.objects if (part := _part(each, tile)) is not None]
                if image.absent is not None:
                    inside = {each.name for each in tile.objects}
                    tile.absent = tuple(dict.fromkeys((*image.absent, *(each.name for each in image.objects
                                                                        if each.name not in inside))))
                    tile.partly = image.partly
                tiles.append(tile)
    filled = [tile for tile in tiles if tile.objects]
    if keep_empty or not filled:
        return tiles
    empty = [tile for tile in tiles if not tile.objects]
    step = max(1, -(-len(empty) // len(filled)))
    kept = {id(tile) for tile in [*filled, *empty[::step]]}
    return [tile for tile in tiles if id(tile) in kept]


def starts(length: int, side: int) -> list[int]:
    """Return the first pixel of each tile along an axis; the tiles are evenly spaced and overlap at least
    :data:`OVERLAP`.
    """
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - OVERLAP)))) + 1
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def write_tiles(tiles: Iterable[Tile], folder: Path) -> None:
    """Write the pixels of tiles, as training reads the images; an image is read once for tiles that follow one another.

    Raises:
        UserError: An image cannot be read.
    """
    for path, parts in groupby(tiles, lambda tile: tile.path):
        pixels = decode(path)
        if pixels is None:
            raise UserError(f'{path} cannot be read as an image; remove it or leave out --tile')
        for tile in parts:
            _write(tile, pixels, folder)


def _write(tile: Tile, pixels: np.ndarray, folder: Path) -> None:
    import cv2
    x, y = tile.corner
    target = folder / PurePosixPath(tile.file_name)
    target.parent.mkdir(parents=True, exist_ok=True)
    is_ok, content = cv2.imencode(target.suffix, pixels[y:y + tile.height, x:x + tile.width],
                                  [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not is_ok:
        raise UserError(f'{tile.path}: the tile at {tile.corner} cannot be encoded as {target.suffix}')
    target.write_bytes(content.tobytes())


def _part(found: SourceObject, tile: Tile) -> SourceObject | None:
    """Return what a tile shows of an object, None if that is too little."""
    left, top = tile.corner
    x1, y1, x2, y2 = found.box
    box = (max(x1 - left, 0.0), max(y1 - top, 0.0), min(x2 - left, tile.width), min(y2 - top, tile.height))
    if box[2] - box[0] < 1 or box[3] - box[1] < 1:
        return None
    shown = (box[2] - box[0]) * (box[3] - box[1])
    if shown < _VISIBLE * min((x2 - x1) * (y2 - y1), tile.width * tile.height):
        return None
    mask = found.mask
    if mask is not None:
        mask = _crop_mask(mask, tile)
        if not mask:
            return None
    return SourceObject(found.name, box, mask, found.is_crowd)


def _crop_mask(mask: list[list[float]] | dict, tile: Tile) -> list[list[float]] | dict | None:
    left, top = tile.corner
    if isinstance(mask, dict):
        part = decode_mask(encode_annotation(mask))[top:top + tile.height, left:left + tile.width]
        return encode_masks(part[None])[0] if part.any() else None
    points = np.concatenate([np.array(polygon, float).reshape(-1, 2) for polygon in mask]) - (left, top)
    counts = np.array([len(polygon) // 2 for polygon in mask])
    polygons, _ = clip_polygons(points, counts, tile.width, tile.height)
    parts = [polygon.ravel().tolist() for polygon in polygons if len(polygon) >= 3]
    return [part for part in parts if mask_area([part])] or None
