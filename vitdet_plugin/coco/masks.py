"""Masks of COCO annotations: polygons and RLE."""

import json
import math
from typing import Any

import numpy as np

from vitdet_plugin.runtime.masks import decode_counts

_FLAT = 1e-6  # pixels; polygons of less area, whose points are on a line, enclose nothing
_FEW_POINTS = 8  # values of the polygons that are tested for it; longer ones are not flat in practice


def usable_mask(mask: Any) -> tuple[Any, bool]:
    """Convert a mask to a list of polygons, or an RLE, that encloses something.

    Polygons are accepted as ``[x1, y1, ...]``, ``[[x, y], ...]`` and lists of these, also nested once more; with
    numbers as text, and as the text of a list.

    Args:
        mask: ``segmentation`` of an annotation.

    Returns:
        The mask, the same object if it needed no change and an empty list if nothing is usable; and whether something
        was removed. Values that are neither polygons nor RLE are returned as they are.
    """
    if isinstance(mask, str):
        mask = _from_text(mask)
    if isinstance(mask, dict) and mask_area(mask) == 0:
        return [], True
    if not mask or not isinstance(mask, list):
        return mask, False
    if all(type(part) is list and len(part) >= 6 and len(part) % 2 == 0 and type(part[0]) in (int, float)
           and not is_flat(part) for part in mask):
        return mask, False
    if len(mask) == 1 and isinstance(mask[0], dict):
        return usable_mask(mask[0])
    polygons = _polygons(mask)
    if polygons is None:
        polygons = _polygons(_with_numbers(mask))
    if polygons is None:
        return mask, False
    usable = [polygon for polygon in polygons
              if len(polygon) >= 6 and len(polygon) % 2 == 0 and not is_flat(polygon)]
    return usable, len(usable) < len(polygons)


def is_flat(polygon: list) -> bool:
    """Whether all points of a short polygon are on a line, so that it encloses nothing."""
    return len(polygon) <= _FEW_POINTS and all(map(_is_number, polygon)) and _polygon_area(polygon) < _FLAT


def number_of(value: Any) -> Any:
    """Return the number that a text such as ``'12.5'`` stands for; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        number = float(value)
    except ValueError:
        return value
    return int(number) if number.is_integer() else number


def _from_text(text: str) -> Any:
    """Return the list or object that a text stands for, as tables store it; other text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, (list, dict)) else text


def _with_numbers(value: Any) -> Any:
    return list(map(_with_numbers, value)) if isinstance(value, list) else number_of(value)


def mask_bounds(mask: Any) -> list[float] | None:
    """Return the box (x, y, width, height) in pixels of a mask, or None if there is no valid mask."""
    if isinstance(mask, dict):
        if not mask_area(mask):
            return None
        from pycocotools import mask as operations
        height, width = mask['size']
        rle = operations.frPyObjects(mask, height, width) if isinstance(mask['counts'], list) else mask
        return [float(value) for value in operations.toBbox(rle)]
    if not _is_polygons(mask):
        return None
    x = [value for polygon in mask for value in polygon[0::2]]
    y = [value for polygon in mask for value in polygon[1::2]]
    return [min(x), min(y), max(x) - min(x), max(y) - min(y)]


def mask_area(mask: Any) -> float | None:
    """Return the number of pixels of a mask, the sum over its polygons; None if there is no valid mask."""
    if isinstance(mask, dict):
        counts = run_lengths(mask)
        return None if counts is None else float(counts[1::2].sum())
    return sum(map(_polygon_area, mask)) if _is_polygons(mask) else None


def run_lengths(mask: dict) -> np.ndarray | None:
    """Return the run lengths of an RLE, of background and object in turn; None if they do not fill its size."""
    size, counts = mask.get('size'), mask.get('counts')
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int and 0 < side < 1e6 for side in size):
        return None
    if isinstance(counts, str):
        counts = decode_counts(counts)
    elif isinstance(counts, list) and counts and all(type(count) is int and 0 <= count < 1e12 for count in counts):
        counts = np.array(counts, np.int64)
    else:
        return None
    return counts if counts is not None and counts.min() >= 0 and counts.sum() == size[0] * size[1] else None


def _polygons(parts: list) -> list[list] | None:
    """Return the flat polygons of a list that may be nested in another way, or None for another content."""
    if all(map(_is_number, parts)):
        return [parts]
    if len(parts) >= 3 and all(map(_is_point, parts)):
        return [[value for point in parts for value in point]]
    polygons: list[list] = []
    for part in parts:
        if not isinstance(part, list):
            return None
        if all(map(_is_number, part)):
            polygons.append(part)
        elif len(part) >= 3 and all(map(_is_point, part)):
            polygons.append([value for point in part for value in point])
        elif all(isinstance(each, list) and all(map(_is_number, each)) for each in part):
            polygons += part
        else:
            return None
    return polygons


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _is_polygons(mask: Any) -> bool:
    return bool(mask) and isinstance(mask, list) and all(
        isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0
        and all(_is_number(value) and -1e9 < value < 1e9 for value in part) for part in mask)


def _polygon_area(polygon: list) -> float:
    x, y = polygon[0::2], polygon[1::2]
    return abs(math.fsum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))) / 2
