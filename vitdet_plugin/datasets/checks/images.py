"""Findings about image files: all of them are opened and decoded."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from vitdet_plugin.datasets.image_probe import ImageProbe, UnreadableImage, probe_image, suppress_pillow_warnings

_SERIAL = 64  # up to this number of images, starting processes takes longer than it saves


class ImageFault(NamedTuple):
    """One finding about one file; ``level`` is 'error', 'warning' or 'note'."""

    level: str
    kind: str
    path: str
    detail: str = ''

    def __str__(self) -> str:
        return f'{self.path}: {self.kind}' + (f' ({self.detail})' if self.detail else '')


def check_image(path: str, size: tuple[float, float] | None = None) -> list[ImageFault]:
    """Open and decode a file.

    Args:
        path: Image file.
        size: (width, height) in pixels that the annotations state, if any.

    Returns:
        Errors: missing, empty, truncated or not decodable, another size than annotated, implausibly large. Warnings:
        an EXIF orientation (OpenCV and so mmcv apply it, Pillow does not), CMYK and 16 bits (reduced to 8-bit BGR).
        Notes: grayscale, palette and alpha (read as BGR without loss, or without the alpha channel).
    """
    with suppress_pillow_warnings():
        probe = probe_image(path)
    if isinstance(probe, UnreadableImage):
        return [ImageFault('error', probe.kind, path, probe.detail)]
    return list(_probe_faults(probe, path, size))


def check_images(paths: Sequence[str], sizes: Sequence[tuple[float, float] | None], jobs: int = 1) -> list[ImageFault]:
    """Return the findings about many files in their order, with up to ``jobs`` processes."""
    if jobs <= 1 or len(paths) < _SERIAL:
        return [fault for path, size in zip(paths, sizes) for fault in check_image(path, size)]
    with ProcessPoolExecutor(jobs) as pool:
        return [fault for faults in pool.map(check_image, paths, sizes, chunksize=32) for fault in faults]


def check_sample(folder: str, names: Sequence[str]) -> tuple[list[str], list[ImageFault]]:
    """Return which of a few images are missing and, if none is, the errors in the files."""
    missing = [name for name in names if not os.path.isfile(os.path.join(folder, name))]
    if missing:
        return missing, []
    faults = [fault for name in names for fault in check_image(os.path.join(folder, name))]
    return [], [fault for fault in faults if fault.level == 'error']


def _probe_faults(probe: ImageProbe, path: str, size: tuple[float, float] | None) -> Iterator[ImageFault]:
    if size is not None and (difference := probe.compare_size(size)):
        yield ImageFault('error', 'has another size than annotated', path, difference)
    elif probe.is_rotated:
        yield ImageFault('warning', 'has an EXIF orientation', path, f'value {probe.orientation}')
    mode = probe.mode
    if mode in ('CMYK', 'YCCK'):
        yield ImageFault('warning', 'is CMYK', path)
    elif mode.startswith('I') or mode == 'F':
        yield ImageFault('warning', 'has more than 8 bits per channel', path, mode)
    elif mode in ('1', 'L', 'LA'):
        yield ImageFault('note', 'is grayscale', path)
    elif mode not in ('RGB', 'YCbCr'):
        yield ImageFault('note', f'is {mode}, read as color without alpha', path)
