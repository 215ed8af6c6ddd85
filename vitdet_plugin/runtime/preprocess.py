"""The steps between an image and the input of a model, from the metadata of its file.

A step is a dictionary whose first key names it:

* ``load``: color type of mmcv; ``backend``
* ``resize``: [W, H]; ``keep_ratio`` fits the image into it, ``truncate`` leaves out the rounding (``FixScaleResize``)
* ``scale``: [x, y], factors; ``fit``: [W, H] with the aspect ratio kept (``FixShapeResize``)
* ``resize_edge``: side in pixels; ``edge`` short, long, width or height
* ``resize_shortest``: side in pixels; ``max_size`` of the other side
* ``letterbox``: side in pixels; ``upscale``, ``fill``
* ``center_crop``: [H, W]; ``efficientnet_crop``: side in pixels, ``padding``
* ``pad``: [H, W], ``'square'`` or ``'divisor'``; ``divisor``, ``value``, ``mode``

Steps that resize have ``interpolation`` and ``backend``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import ModelError
from .resize import resize

Step = dict[str, Any]


@dataclass
class Prepared:
    """An image as a model takes it, and where its pixels are from.

    Attributes:
        image: (h, w) or (h, w, C), BGR if there are 3 channels.
        original: Height and width of the original image.
        scale: Factors (x, y) from pixels of the original to those of ``image``.
        offset: Position (x, y) of the original's first pixel in ``image``.
        canvas: Height and width of the model's input; ``image`` is its upper left part.
        content: Height and width of the part of ``image`` that the original fills, from ``offset``.
    """

    image: np.ndarray
    original: tuple[int, int]
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)
    canvas: tuple[int, int] = (0, 0)
    content: tuple[int, int] = (0, 0)

    def resized(self, size: tuple[int, int], how: Step, scale: tuple[float, float] | None = None) -> None:
        """Resize the image to (width, height); ``scale`` replaces the factors in the results."""
        height, width = self.image.shape[:2]
        size = max(size[0], 1), max(size[1], 1)
        self.image = resize(self.image, size, how.get('interpolation', 'bilinear'), how.get('backend', 'cv2'))
        x, y = scale or (size[0] / width, size[1] / height)
        self.scale = self.scale[0] * x, self.scale[1] * y
        self.offset = self.offset[0] * x, self.offset[1] * y

    def cropped(self, left: int, top: int, width: int, height: int) -> None:
        """Keep a rectangle of the image."""
        self.image = self.image[top:top + height, left:left + width]
        self.offset = self.offset[0] - left, self.offset[1] - top

    def padded(self, left: int, top: int, right: int, bottom: int, value: Any = 0, mode: str = 'constant') -> None:
        """Add pixels around the image."""
        if not (left or top or right or bottom):
            return
        around = ((top, bottom), (left, right), *[(0, 0)] * (self.image.ndim - 2))
        if mode != 'constant':
            self.image = np.pad(self.image, around, mode=mode)  # type: ignore[call-overload]
        else:
            height, width = self.image.shape[:2]
            canvas = np.empty((height + top + bottom, width + left + right, *self.image.shape[2:]), self.image.dtype)
            canvas[:] = np.asarray(value, self.image.dtype)
            canvas[top:top + height, left:left + width] = self.image
            self.image = canvas
        self.offset = self.offset[0] + left, self.offset[1] + top


def prepare(image: np.ndarray, steps: Sequence[Step], shape: tuple[int, int] | None, fits: bool) -> Prepared:
    """Apply steps to an image.

    Args:
        image: (H, W) or (H, W, C) as it was loaded.
        steps: The steps; ``load`` is left out.
        shape: Height and width of the model's input; None if the model takes any size.
        fits: Whether an image that is smaller than ``shape`` after the steps is padded, and a larger one resized to fit
            into it in place of the steps.

    Raises:
        ModelError: An unknown step, or a size that the model does not take.
    """
    found = _apply(image, steps)
    sides = found.image.shape[:2]
    if shape is not None and sides != shape:
        if not fits:
            raise ModelError(f'the test pipeline returns {sides[0]} x {sides[1]} pixels, but the exported model '
                             f'requires {shape[0]} x {shape[1]}. Export with this --shape.')
        if sides[0] > shape[0] or sides[1] > shape[1]:
            found = _apply(image, _steps_to_fit(steps, shape))
    found.canvas = shape or (int(found.image.shape[0]), int(found.image.shape[1]))
    found.content = tuple(  # type: ignore[assignment]
        max(min(round(side * factor), int(limit - at)), 1) for side, factor, limit, at in zip(
            found.original, found.scale[::-1], found.image.shape, found.offset[::-1]))
    return found


def _apply(image: np.ndarray, steps: Sequence[Step]) -> Prepared:
    found = Prepared(image, (int(image.shape[0]), int(image.shape[1])))
    for step in steps:
        name = next(iter(step))
        if name == 'load':
            continue
        if name not in _STEPS:
            raise ModelError(f'the model file has the step {name}, which this version does not support; update '
                             'vitdet-plugin')
        _STEPS[name](found, step)
    return found


def _steps_to_fit(steps: Sequence[Step], shape: tuple[int, int]) -> list[Step]:
    """Return steps for an input that is smaller than what the steps of the file make."""
    for step in steps:
        if 'letterbox' in step:
            return [dict(step, letterbox=max(shape), shape=list(shape))]
    how: Step = next((step for step in steps if 'interpolation' in step), {})
    how = {key: how[key] for key in ('interpolation', 'backend') if key in how}
    return [dict(fit=list(shape[::-1]), **how)]


def _resize(found: Prepared, step: Step) -> None:
    (height, width), size = found.image.shape[:2], step['resize']
    if not step.get('keep_ratio'):
        found.resized((size[0], size[1]), step)
        return
    ratio = min(max(size) / max(height, width), min(size) / min(height, width))
    half = 0 if step.get('truncate') else 0.5
    found.resized((int(width * ratio + half), int(height * ratio + half)), step)


def _scale(found: Prepared, step: Step) -> None:
    (height, width), (x, y) = found.image.shape[:2], step['scale']
    found.resized((int(width * float(x) + 0.5), int(height * float(y) + 0.5)), step)


def _fit(found: Prepared, step: Step) -> None:
    (height, width), size = found.image.shape[:2], step['fit']
    ratio = min(size[0] / width, size[1] / height)
    target = max(int(width * ratio + 0.5), 1), max(int(height * ratio + 0.5), 1)
    found.resized(target, step, (ratio, ratio))  # mmdet divides boxes by this ratio


def _resize_edge(found: Prepared, step: Step) -> None:
    (height, width), side, edge = found.image.shape[:2], step['resize_edge'], step['edge']
    if edge == 'width' or edge == 'short' and width < height or edge == 'long' and width > height:
        found.resized((side, int(side * height / width)), step)
    else:
        found.resized((int(side * width / height), side), step)


def _resize_shortest(found: Prepared, step: Step) -> None:
    (height, width), side, limit = found.image.shape[:2], step['resize_shortest'], step.get('max_size')
    ratio = side / min(height, width)
    rows, columns = (side, ratio * width) if height < width else (ratio * height, side)
    if limit and max(rows, columns) > limit:
        ratio = limit / max(rows, columns)
        rows, columns = rows * ratio, columns * ratio
    found.resized((int(columns + 0.5), int(rows + 0.5)), step)


def _letterbox(found: Prepared, step: Step) -> None:
    (height, width), side = found.image.shape[:2], step['letterbox']
    rows, columns = step.get('shape', (side, side))
    ratio = min(side / max(height, width), rows / height, columns / width)
    ratio = ratio if step.get('upscale') else min(ratio, 1.0)
    size = max(round(width * ratio), 1), max(round(height * ratio), 1)
    if size != (width, height):
        found.resized(size, dict(interpolation='area' if ratio < 1 else 'bilinear'))
    left, top = (columns - size[0]) // 2, (rows - size[1]) // 2
    found.padded(left, top, columns - size[0] - left, rows - size[1] - top, step.get('fill', 114))


def _center_crop(found: Prepared, step: Step) -> None:
    rows, columns = (min(int(a), b) for a, b in zip(step['center_crop'], found.image.shape))
    top, left = (max(0, int(round((side - crop) / 2))) for side, crop in zip(found.image.shape, (rows, columns)))
    found.cropped(left, top, columns, rows)


def _efficientnet_crop(found: Prepared, step: Step) -> None:
    (height, width), side = found.image.shape[:2], step['efficientnet_crop']
    crop = side / (side + step['padding']) * min(height, width)
    top, left = max(0, int(round((height - crop) / 2))), max(0, int(round((width - crop) / 2)))
    right, bottom = min(int(left + crop - 1), width - 1), min(int(top + crop - 1), height - 1)
    found.cropped(left, top, right + 1 - left, bottom + 1 - top)
    found.resized((side, side), step)


def _pad(found: Prepared, step: Step) -> None:
    (height, width), target, divisor = found.image.shape[:2], step['pad'], step.get('divisor') or 1
    rows, columns = (height, width) if target == 'divisor' else (max(height, width),) * 2 if target == 'square' else \
        target
    rows, columns = (-(-side // divisor) * divisor for side in (rows, columns))
    found.padded(0, 0, max(columns - width, 0), max(rows - height, 0), step.get('value', 0),
                 step.get('mode', 'constant'))


_STEPS = dict(resize=_resize, scale=_scale, fit=_fit, resize_edge=_resize_edge, resize_shortest=_resize_shortest,
              letterbox=_letterbox, center_crop=_center_crop, efficientnet_crop=_efficientnet_crop, pad=_pad)
