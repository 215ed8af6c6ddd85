"""Values of the pixels of masks, and whether they count objects or classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from vitdet_plugin.datasets.image_probe import decoder_limits

IGNORED = 255  # border of objects in the masks of Pascal VOC and others
_FEW_VALUES = 32
_MOST_EDGES, _FLAT_IN_EDGES = 0.2, 0.1  # share of an image that is blurred edges, and of them that is flat
IGNORED_COLOR = 224 << 16 | 224 << 8 | 192  # the same in their palette


class MaskValues(NamedTuple):
    """The pixels of a mask.

    Attributes:
        codes: (H, W) integers; a color is red * 65536 + green * 256 + blue.
        is_color: Whether the codes are colors.
    """

    codes: np.ndarray
    is_color: bool


class MaskKind(NamedTuple):
    """What the values of a set of masks mean.

    Attributes:
        name: ``binary``, ``instance`` or ``semantic``.
        reason: As a phrase.
        ignored: Value that is neither an object nor background; None without one.
        is_by_values: Whether the values decided, which may be ambiguous.
    """

    name: str
    reason: str
    ignored: int | None
    is_by_values: bool = False


def read_values(path: Path) -> MaskValues:
    """Read a mask; of a palette the indices, of color masks one code for each color, 0 for transparent pixels.

    Blurred edges of a mask of two values, as JPEG and resizing produce them, are rounded.

    Raises:
        ValueError: It cannot be read, or it is a JPEG of more than two values, which are not exact.
    """
    try:
        with decoder_limits(), Image.open(path) as image:
            is_lossy = image.format in ('JPEG', 'MPO')
            has_alpha = image.mode in ('RGBA', 'LA', 'PA')
            mode = 'L' if is_lossy else 'RGBA' if has_alpha else image.mode
            pixels = np.asarray(image.convert('RGB' if mode in ('CMYK', 'YCbCr') else mode))
    except Exception as error:  # decoders raise almost anything on damaged data
        raise ValueError(f'the mask cannot be read ({" ".join(str(error).split())[:60]})') from None
    if pixels.dtype.kind == 'f' or pixels.ndim not in (2, 3):
        raise ValueError('the mask has values that are not integers')
    opaque = pixels[..., 3] > 0 if has_alpha else None
    is_color = False
    if pixels.ndim == 3:
        is_color = bool((pixels[..., :1] != pixels[..., :3]).any())
        weights = np.array([65536, 256, 1] if is_color else [1, 0, 0], np.int32)
        pixels = pixels[..., :3].astype(np.int32) @ weights
    elif pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if opaque is not None and not opaque.all():
        pixels = np.where(opaque, pixels if pixels[opaque].any() else 1, 0)
    if not is_color and mode != 'P' and _is_blurred(pixels):
        pixels = np.where(pixels > 127, 255, 0)
    elif is_lossy and pixels.any():
        raise ValueError('the mask is a JPEG of more than two values, which are not exact; store it as PNG')
    return MaskValues(pixels.astype(np.int32), is_color)


def _is_blurred(pixels: np.ndarray) -> bool:
    """Whether the values between 0 and 255 are those of blurred edges: hardly a pixel equals its four neighbors."""
    middle = (pixels > 16) & (pixels < 240)
    count = len(np.unique(pixels))
    if pixels.max(initial=0) not in range(240, 256) or count <= 4 or middle.mean() > _MOST_EDGES:
        return False
    if not middle.any():  # noise of a JPEG around two values
        return count > 8
    inside = middle.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inside &= np.roll(pixels, step, axis) == pixels
    return int(inside.sum()) <= _FLAT_IN_EDGES * middle.sum()


def is_flat(codes: np.ndarray) -> bool:
    """Whether there are few values or most neighboring pixels are equal, as in masks and unlike in photographs."""
    if len(np.unique(codes)) <= _FEW_VALUES:
        return True
    return codes.shape[1] > 1 and float((codes[:, 1:] == codes[:, :-1]).mean()) > 0.85


def has_object_border(mask: MaskValues) -> bool:
    """Whether most pixels at the border of a mask are not 0, as in one whose background is not 0."""
    codes = mask.codes
    border = np.concatenate([codes[0], codes[-1], codes[:, 0], codes[:, -1]])
    return bool((border != 0).mean() > 0.5)


def decide_kind(masks: Sequence[MaskValues], words: set[str]) -> MaskKind:
    """Decide whether the values of masks count objects or classes.

    Args:
        masks: Some of the masks.
        words: Words of the names of their folders, in lower case.
    """
    ignored = _ignored_value(masks)
    values = [[int(value) for value in np.unique(mask.codes) if value not in (0, ignored)] for mask in masks]
    occurring = Counter(value for each in values for value in each)
    if len(occurring) <= 1:
        return MaskKind('binary', f'all {len(masks)} masks looked at have one value besides 0', ignored)
    if words & {'object', 'objects', 'instance', 'instances'} and not words & {'class', 'semantic'}:
        return MaskKind('instance', 'by the name of their folder', ignored)
    if words & {'class', 'semantic', 'semantics', 'trimaps'}:
        return MaskKind('semantic', 'by the name of their folder', ignored)
    if max(occurring) > 255 and not any(mask.is_color for mask in masks):
        return MaskKind('instance', f'values up to {max(occurring)}', ignored)
    filled = [each for each in values if each]
    counted = sum(each == list(range(1, len(each) + 1)) for each in filled) / len(filled)
    # values that count objects have few gaps, if some objects were removed, and an image has many of them
    dense = sum(len(each) / max(each) for each in filled) / len(filled)
    number = sorted(map(len, filled))[len(filled) // 2]
    parts = [_components(mask.codes == value) for mask, each in zip(masks, values) for value in each[:20]]
    split = sum(count > 1 for count in parts) / len(parts)
    repeated = occurring.total() / len(occurring)
    facts = (f'{len(occurring)} values in {len(masks)} masks; they count from 1 without a gap in {100 * counted:.0f} % '
             f'of them; {100 * split:.0f} % of their regions consist of several parts')
    is_counted = counted >= 0.9 or dense >= 0.75 or number > 10
    is_semantic = len(occurring) <= 64 and repeated >= 1.5 and (split > 0.3 or not is_counted)
    return MaskKind('semantic' if is_semantic else 'instance', facts, ignored, True)


def _ignored_value(masks: Sequence[MaskValues]) -> int | None:
    """Return the value that marks neither objects nor background in a set of masks."""
    values = {int(value) for mask in masks for value in np.unique(mask.codes)} - {0}
    if any(mask.is_color for mask in masks):
        return IGNORED_COLOR if IGNORED_COLOR in values and len(values) > 1 else None
    others = values - {IGNORED}
    return IGNORED if IGNORED in values and others and max(others) < IGNORED - 1 else None


def _components(mask: np.ndarray) -> int:
    """Return the number of parts of a mask that have at least a tenth of its pixels."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    return int((10 * areas >= areas.sum()).sum())
