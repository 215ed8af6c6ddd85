"""Rows of the text files of YOLO: a box or a polygon relative to the size of the image."""

from __future__ import annotations

import math
from typing import NamedTuple

_MOST_CLASSES = 10_000  # if there is no list of names


class YoloRow(NamedTuple):
    """One object.

    Attributes:
        label: Class, counted from 0.
        box: Corners (x1, y1, x2, y2) relative to the size of the image.
        polygon: ``(x1, y1, x2, y2, ...)`` relative to the size of the image, or None for a box.
        keypoints: Numbers that follow the box of a pose, which are not used.
    """

    label: int
    box: tuple[float, float, float, float]
    polygon: tuple[float, ...] | None
    keypoints: tuple[float, ...] = ()


def parse_row(line: str, classes: int | None = None, keypoint_values: int = 0) -> YoloRow:
    """Parse a row ``class cx cy w h``, perhaps with keypoints, or ``class x1 y1 x2 y2 x3 y3 ...``.

    Args:
        line: The row.
        classes: Number of classes if it is known.
        keypoint_values: Number of values of keypoints that follow each box, according to the yaml of the data set.

    Raises:
        ValueError: With the reason why it is invalid.
    """
    try:
        values = [float(word) for word in line.split()]
    except ValueError:
        advice = '; separate numbers by blanks and write decimals with a point' if ',' in line else ''
        raise ValueError(f'not only numbers: {line.strip()!r}{advice}') from None
    keypoints: tuple[float, ...] = ()
    if keypoint_values and len(values) == 5 + keypoint_values or _is_pose(values):
        values, keypoints = values[:5], tuple(values[5:])
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(f'{len(values)} numbers; a box has 5 (class, center x, center y, width, height), a polygon 7, '
                         '9, 11 ... (class and corners)' + (
                             '; remove the sixth, a confidence' if len(values) == 6 else
                             '; for a box with keypoints, set kpt_shape in data.yaml' if len(values) > 6 else ''))
    if keypoint_values and len(values) > 5:  # not a polygon
        raise ValueError(f'{len(values)} numbers; kpt_shape in data.yaml states {5 + keypoint_values}')
    if not all(math.isfinite(value) for value in values):
        raise ValueError('a number is not finite')
    label, *coordinates = values
    if label != int(label) or not 0 <= label < (classes or _MOST_CLASSES):
        raise ValueError(f'class {label:g}; ' + (f'there are {classes}, counted from 0' if classes else
                                                 f'classes are integers from 0 to {_MOST_CLASSES - 1}'))
    if max(coordinates) > 2:
        raise ValueError(f'{max(coordinates):g} is not relative to the image size; coordinates go from 0 to 1')
    if len(values) == 5:
        x, y, width, height = coordinates
        if width <= 0 or height <= 0:
            raise ValueError(f'width {width:g} and height {height:g} must be above 0')
        return YoloRow(int(label), (x - width / 2, y - height / 2, x + width / 2, y + height / 2), None, keypoints)
    xs, ys = coordinates[0::2], coordinates[1::2]
    return YoloRow(int(label), (min(xs), min(ys), max(xs), max(ys)), tuple(coordinates))


def _is_pose(values: list[float]) -> bool:
    """Whether a box and keypoints (x, y, visibility) follow the class; polygons have an odd number of values, no 2."""
    visibilities = set(values[7::3])
    return len(values) >= 8 and (len(values) - 5) % 3 == 0 and visibilities <= {0, 1, 2} and (
        len(values) % 2 == 0 or 2 in visibilities)
