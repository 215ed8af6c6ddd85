"""Shapes of labeling tools, in pixels: rectangles, ellipses, polygons with holes, bitmaps."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

_LARGEST = 1e9  # number in annotation files
_SAGITTA = 0.1  # largest distance in pixels between an ellipse and the polygon in its place


@dataclass
class Shape:
    """A part of an object: one of a box, polygons, or a bitmap.

    Attributes:
        box: Corners (x1, y1, x2, y2) of an upright rectangle.
        polygons: Outlines ``[x1, y1, x2, y2, ...]``.
        holes: Outlines of what is cut out of the polygons.
        bitmap: (h, w) bool array.
        origin: Left and top pixel of the bitmap.
    """

    box: tuple[float, float, float, float] | None = None
    polygons: list[list[float]] = field(default_factory=list)
    holes: list[list[float]] = field(default_factory=list)
    bitmap: np.ndarray | None = None
    origin: tuple[int, int] = (0, 0)


def to_number(value: Any) -> float:
    """Return a finite number of a plausible size, also from its text.

    Raises:
        ValueError: It is not one.
    """
    try:
        number = float(value) if not isinstance(value, bool) else math.nan
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise ValueError(f'a coordinate is {str(value)[:40]!r}, which is not a number of pixels')
    return number


def to_points(points: Any) -> list[list[float]]:
    """Return points [x, y] as numbers.

    Raises:
        ValueError: The argument is not a list of pairs of numbers.
    """
    if not isinstance(points, (list, tuple)) or not all(isinstance(point, (list, tuple)) and len(point) >= 2
                                                        for point in points):
        raise ValueError('the points are not a list of pairs [x, y]')
    return [[to_number(point[0]), to_number(point[1])] for point in points]


def rectangle(x1: float, y1: float, x2: float, y2: float, degrees: float = 0,
              pivot: tuple[float, float] | None = None) -> Shape:
    """Return an upright box, or a polygon if it is rotated.

    Args:
        x1: Corner; the corners may be exchanged.
        y1: Likewise.
        x2: Likewise.
        y2: Likewise.
        degrees: Rotation, clockwise as displayed.
        pivot: Center (x, y) of the rotation; by default that of the box.
    """
    x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    if degrees % 360 == 0:
        return Shape(box=(x1, y1, x2, y2))
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    return Shape(polygons=[_rotate(corners, degrees, pivot or ((x1 + x2) / 2, (y1 + y2) / 2))])


def count_fitting(boxes: Sequence[tuple[Sequence[float], tuple[float, float]]]) -> tuple[int, int]:
    """Return how many boxes lie within their image as two corners, and as a corner, width and height.

    Args:
        boxes: Four numbers, and (width, height) of the image in pixels, for each box.
    """
    def fits(corners: Sequence[float], size: tuple[float, float]) -> bool:
        x1, y1, x2, y2 = corners
        return x1 < x2 <= size[0] + 1 and y1 < y2 <= size[1] + 1

    return (sum(fits(box, size) for box, size in boxes),
            sum(fits((x, y, x + width, y + height), size) for (x, y, width, height), size in boxes))


def choose_corners(boxes: Sequence[tuple[Sequence[float], tuple[float, float]]], are_usual: bool) -> tuple[bool, str]:
    """Decide whether boxes are two corners, or a corner, width and height; return it with a remark for the user.

    Args:
        boxes: As for :func:`count_fitting`, all boxes of a data set.
        are_usual: Whether they are corners if the numbers allow for both.
    """
    corners, sizes = count_fitting(boxes)
    are_corners = corners > sizes or corners == sizes and are_usual
    forms = ['x, y, width, height', 'x1, y1, x2, y2']
    reason = f'all {len(boxes)} are within their images as both, and this is what the name usually means' \
        if corners == sizes == len(boxes) else \
        f'{max(corners, sizes)} of {len(boxes)} are within their images so, {min(corners, sizes)} as ' \
        f'{forms[not are_corners]}'
    return are_corners, f'the numbers of a box are read as {forms[are_corners]} ({reason})'


def ellipse(x: float, y: float, x_radius: float, y_radius: float, degrees: float = 0) -> Shape:
    """Return an ellipse as a polygon that is at most 0.1 pixels and 0.2 % of its area away from it.

    Args:
        x: Center.
        y: Center.
        x_radius: Half axis along x before the rotation.
        y_radius: Half axis along y before the rotation.
        degrees: Rotation about the center, clockwise as displayed.

    Raises:
        ValueError: A radius is not positive.
    """
    if min(x_radius, y_radius) <= 0:
        raise ValueError(f'an ellipse with radii {x_radius:g} and {y_radius:g}')
    count = math.pi * math.sqrt(max(x_radius, y_radius) / (2 * _SAGITTA))
    count = 4 * min(max(math.ceil(count / 4), 16), 256)
    angles = [2 * math.pi * i / count for i in range(count)]
    points = [(x + x_radius * math.cos(angle), y + y_radius * math.sin(angle)) for angle in angles]
    return Shape(polygons=[_rotate(points, degrees, (x, y))])


def polygon(points: Sequence[Sequence[float]], holes: Iterable[Sequence[Sequence[float]]] = ()) -> Shape:
    """Return a polygon of points [x, y], with holes.

    Raises:
        ValueError: It has fewer than three points.
    """
    if len(points) < 3:
        raise ValueError(f'a polygon of {len(points)} points; three are needed')
    return Shape(polygons=[_flatten(points)], holes=[_flatten(hole) for hole in holes if len(hole) >= 3])


def bitmap(pixels: np.ndarray, left: float, top: float) -> Shape:
    """Return the pixels of an (h, w) array other than 0, whose first pixel is at (left, top)."""
    return Shape(bitmap=pixels != 0, origin=(round(left), round(top)))


def decode_base64(text: Any) -> bytes:
    """Decode base64, also of a data URL.

    Raises:
        ValueError: It is not one.
    """
    if not isinstance(text, str):
        raise ValueError('the mask is not a text in base64')
    try:
        return base64.b64decode(text.rpartition(',')[2] if text.startswith('data:') else text)
    except ValueError:
        raise ValueError('the mask is not valid base64') from None


def decode_mask(content: bytes) -> np.ndarray:
    """Return the (h, w) bool mask that an image file contains: its pixels that are not transparent, or not 0.

    Raises:
        ValueError: It is not an image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
                pixels = np.asarray(image.convert('RGBA'))
                if (pixels[..., 3] < 255).any():
                    return pixels[..., 3] != 0
                return pixels[..., :3].any(axis=-1) | (pixels == pixels[0, 0]).all()
            pixels = np.asarray(image)
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ValueError(f'the mask is not an image ({" ".join(str(error).split())[:60]})') from None
    return pixels.any(axis=-1) if pixels.ndim == 3 else pixels != 0


def _rotate(points: Iterable[tuple[float, float]], degrees: float, pivot: tuple[float, float]) -> list[float]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [value for x, y in points for value in (
        pivot[0] + (x - pivot[0]) * cos - (y - pivot[1]) * sin, pivot[1] + (x - pivot[0]) * sin + (y - pivot[1]) * cos)]


def _flatten(points: Sequence[Sequence[float]]) -> list[float]:
    return [value for point in points for value in point[:2]]
