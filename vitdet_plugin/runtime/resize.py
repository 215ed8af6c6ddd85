"""Resizing as OpenCV and Pillow do it; NumPy computes the same, up to rounding, where one of them is missing."""

from __future__ import annotations

from typing import Any

import numpy as np

from .libraries import opencv, pillow

INTERPOLATIONS = dict(cv2=('nearest', 'bilinear', 'bicubic', 'area', 'lanczos'),
                      pillow=('nearest', 'bilinear', 'bicubic', 'box', 'lanczos', 'hamming'))
_SUPPORT = dict(box=0.5, bilinear=1.0, hamming=1.0, bicubic=2.0, lanczos=3.0)  # of Pillow's kernels, in pixels


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str = 'bilinear', backend: str = 'cv2'
           ) -> np.ndarray:
    """Resize an image as mmcv's ``imresize`` does.

    Args:
        image: (H, W) or (H, W, C).
        size: Width and height of the result.
        interpolation: One of :data:`INTERPOLATIONS` of the backend.
        backend: ``'cv2'``, which samples without smoothing, or ``'pillow'``, which smooths when it reduces.
    """
    cv2, library = opencv(), pillow()
    if backend == 'cv2' and cv2 is not None:
        code = dict(nearest=cv2.INTER_NEAREST, bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC, area=cv2.INTER_AREA,
                    lanczos=cv2.INTER_LANCZOS4)[interpolation]
        resized = cv2.resize(image, size, interpolation=code)
    elif backend == 'pillow' and library is not None and (image.ndim == 2 or image.shape[2] in (3, 4)):
        resized = np.array(library.fromarray(image).resize(size, library.Resampling[interpolation.upper()]))
    else:
        resized = resample(image, size, interpolation, backend)
    return resized.reshape(*resized.shape[:2], *image.shape[2:])  # OpenCV drops the axis of a single channel


def resample(image: np.ndarray, size: tuple[int, int], interpolation: str, backend: str) -> np.ndarray:
    """Compute :func:`resize` with NumPy, along the columns and then along the rows."""
    if size == image.shape[1::-1]:
        return image.copy()
    is_area = interpolation == 'area' and size[0] <= image.shape[1] and size[1] <= image.shape[0]
    values: Any = image
    for axis, target in ((1, size[0]), (0, size[1])):
        source = image.shape[axis]
        if backend == 'pillow' and source == target:
            continue
        taps = _taps_of_pillow if backend == 'pillow' else _taps_of_opencv
        indices, weights = taps(source, target, 'covered' if is_area else interpolation)
        values = _weighted_sum(values, indices, weights, axis)
        if backend == 'pillow':  # it rounds after each direction
            values = _as_type(values, image.dtype)
    return _as_type(values, image.dtype)


def _weighted_sum(values: np.ndarray, indices: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    shape = [1] * values.ndim
    shape[axis] = len(indices)
    total = 0
    for tap in range(indices.shape[1]):
        total = total + np.take(values, indices[:, tap], axis).astype(np.float32) * weights[:, tap].reshape(shape)
    return np.asarray(total)


def _as_type(values: np.ndarray, dtype: Any) -> np.ndarray:
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    return np.floor(values + 0.5).clip(0, np.iinfo(dtype).max).astype(dtype)


def _taps_of_opencv(source: int, target: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Return indices and weights (target, K) of the source pixels of each target pixel."""
    scale, at = 1 / (target / source), np.arange(target)  # rounded as OpenCV does
    if interpolation == 'nearest':
        return np.minimum(np.floor(at * scale), source - 1).astype(int)[:, None], np.ones((target, 1), np.float32)
    if interpolation == 'covered':  # the mean of the covered part of the source
        first = np.floor(at * scale + 1e-9).astype(int)
        reach = first[:, None] + np.arange(int(np.ceil(scale)) + 1)
        low, high = np.maximum(reach, (at * scale)[:, None]), np.minimum(reach + 1, ((at + 1) * scale)[:, None])
        weights = (high - low).clip(0) * (reach < source)
        return np.minimum(reach, source - 1), _normalized(weights)
    if interpolation == 'area':  # of an enlarged image
        first = np.floor(at * scale)
        part = ((at + 1) - (first + 1) * (target / source)).astype(np.float32)
        part = np.where(part <= 0, 0, part - np.floor(part))
    else:
        place = (at + 0.5) * scale - 0.5
        first = np.floor(place)
        part = place - first
    reach = {'bicubic': np.arange(-1, 3), 'lanczos': np.arange(-3, 5)}.get(interpolation, np.arange(2))
    distance = np.abs(part[:, None] - reach)
    kernel = {'bicubic': lambda x: _cubic(x, -0.75), 'lanczos': lambda x: np.sinc(x) * np.sinc(x / 4) * (x < 4)}.get(
        interpolation, lambda x: (1 - x).clip(0))
    indices = (first[:, None] + reach).clip(0, source - 1).astype(int)
    return indices, _normalized(kernel(distance))


def _taps_of_pillow(source: int, target: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    scale, at = source / target, np.arange(target)
    center = (at + 0.5) * scale
    if interpolation == 'nearest':
        center = np.cumsum([0.5 * scale, *[scale] * (target - 1)])  # rounded as Pillow does
        return np.floor(center).clip(0, source - 1).astype(int)[:, None], np.ones((target, 1), np.float32)
    stretch = max(scale, 1.0)
    support = _SUPPORT[interpolation] * stretch
    first, last = np.floor(center - support + 0.5).clip(0), np.floor(center + support + 0.5).clip(None, source)
    reach = first[:, None] + np.arange(int((last - first).max()))
    distance = np.abs((reach - center[:, None] + 0.5) / stretch)
    # a pixel at the edge of the box belongs to the half-open interval (-0.5, 0.5]
    side = (reach - center[:, None] + 0.5) / stretch
    kernel = {'box': lambda x: ((side > -0.5) & (side <= 0.5)).astype(float), 'bilinear': lambda x: (1 - x).clip(0),
              'hamming': lambda x: np.sinc(x) * (0.54 + 0.46 * np.cos(np.pi * x)) * (x < 1),
              'bicubic': lambda x: _cubic(x, -0.5), 'lanczos': lambda x: np.sinc(x) * np.sinc(x / 3) * (x < 3)}
    weights = kernel[interpolation](distance) * (reach < last[:, None])
    return reach.clip(0, source - 1).astype(int), _normalized(weights)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _normalized(weights: np.ndarray) -> np.ndarray:
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
