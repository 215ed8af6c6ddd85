"""Mean and standard deviation of a data set's pixels, for ``data_preprocessor``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vitdet_plugin.datasets.image_reader import decode
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track

MAX_UNREADABLE = 0.01  # share of the images; above this the result would describe another data set
_CHUNK_PIXELS = 2**23  # OpenCV counts in float32: exact below 2**24
_PENDING = 64  # images that are read ahead


@dataclass
class PixelStats:
    """Statistics over all pixels of a data set, channels in the order red, green, blue.

    Attributes:
        mean: (3,) in 0 ... 255.
        std: (3,) in 0 ... 255, of all pixels together, not a mean over images.
        pixels: Number of pixels of each channel.
        images: Number of images that were read.
        unreadable: Files that could not be read.
    """

    mean: np.ndarray
    std: np.ndarray
    pixels: int
    images: int
    unreadable: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for ``json.dump``."""
        return dict(mean=self.mean.tolist(), std=self.std.tolist(), mean_0_1=(self.mean / 255).tolist(),
                    std_0_1=(self.std / 255).tolist(), channels='RGB', pixels=self.pixels, images=self.images,
                    unreadable=self.unreadable)

    def config_snippet(self, is_detection: bool) -> str:
        """Return lines for a config of mmdet (``is_detection``) or mmpretrain."""
        mean, std = ([round(float(value), 3) for value in values] for values in (self.mean, self.std))
        flip = 'bgr_to_rgb' if is_detection else 'to_rgb'
        return (f'model = dict(data_preprocessor=dict(\n    mean={mean}, std={std}, {flip}=True))' if is_detection else
                f'data_preprocessor = dict(\n    mean={mean}, std={std}, {flip}=True)')


def pixel_stats(paths: Sequence[Path], workers: int | None = None) -> PixelStats:
    """Compute the statistics over every pixel, with one image per worker in memory.

    Images are decoded as in training (8 bits, three channels). The counts are integers (a histogram of each channel),
    so the result is exact and does not depend on the order of the images.

    Args:
        paths: Image files.
        workers: Threads; by default one per core, at most 8.

    Raises:
        UserError: Fewer than 99 % of the images can be read.
    """
    counts, unreadable = np.zeros((3, 256), np.int64), []
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        for path, found in zip(paths, track(_bounded_map(pool, paths), len(paths), 'images')):
            if found is None:
                unreadable.append(str(path))
            else:
                counts += found
    if len(unreadable) > MAX_UNREADABLE * len(paths):
        raise UserError(f'{len(unreadable)} of {len(paths)} images cannot be read ({", ".join(unreadable[:3])}'
                        f'{", …" if len(unreadable) > 3 else ""}); fix or remove them')
    pixels = int(counts[0].sum())
    values = np.arange(256, dtype=object)  # Python integers: squares of a large set exceed 64 bits
    mean, std = np.empty(3), np.empty(3)
    for channel, row in enumerate(counts.astype(object)):
        total, squares = int((values * row).sum()), int((values * values * row).sum())
        mean[channel] = total / pixels
        std[channel] = (squares * pixels - total * total) ** 0.5 / pixels
    return PixelStats(mean, std, pixels, len(paths) - len(unreadable), unreadable)


def _bounded_map(pool: ThreadPoolExecutor, paths: Sequence[Path]):
    """Yield histograms in order, with at most 64 pending futures, whatever the size of the data set."""
    pending = []
    for path in paths:
        pending.append(pool.submit(channel_histograms, path))
        if len(pending) >= _PENDING:
            yield pending.pop(0).result()
    for future in pending:
        yield future.result()


def channel_histograms(path: Path) -> np.ndarray | None:
    """Return (3, 256) int64 counts of red, green and blue values of an image, or None if it cannot be read."""
    image = decode(path)
    if image is None:
        return None
    counts = np.zeros((3, 256), np.int64)
    rows = max(1, _CHUNK_PIXELS // image.shape[1])
    for top in range(0, image.shape[0], rows):
        for channel in range(3):
            part = cv2.calcHist([image[top:top + rows]], [2 - channel], None, [256], [0, 256])
            counts[channel] += part.reshape(-1).astype(np.int64)  # (256, 1) in OpenCV 4
    return counts
