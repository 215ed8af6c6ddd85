"""What is wrong with image files: all of them are opened and decoded."""

import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

_ORIENTATION = 0x0112  # EXIF tag
_TRANSPOSING = (5, 6, 7, 8)


class ImageFault(NamedTuple):
    """One finding about one file; ``level`` is 'error', 'warning' or 'note'."""

    level: str
    kind: str
    path: str
    detail: str = ''

    def __str__(self) -> str:
        return f'{self.path}: {self.kind}' + (f' ({self.detail})' if self.detail else '')


def inspect_image(path: str, size: tuple[int, int] | None = None) -> list[ImageFault]:
    """Open and decode a file.

    Args:
        size: (width, height) that the annotations give, if any.

    Errors: missing, empty, cut off or not decodable, another size than annotated, implausibly large. Warnings: an EXIF
    orientation (OpenCV and so mmcv turn the picture, Pillow does not), CMYK and 16-bit (reduced to 8-bit BGR). Notes:
    greyscale, palette and alpha (read as BGR without loss or without the alpha).
    """
    from PIL import Image, UnidentifiedImageError
    if not os.path.isfile(path):
        return [ImageFault('error', 'is missing', path)]
    if os.path.getsize(path) == 0:
        return [ImageFault('error', 'is empty', path)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(path) as image:
                faults = list(_faults_of(image, path, size))
                image.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        return [ImageFault('error', 'is implausibly large', path)]
    except UnidentifiedImageError:
        return [ImageFault('error', 'is no image', path)]
    except Exception as error:  # decoders raise almost anything on damaged data
        return [ImageFault('error', 'cannot be decoded to its end', path, ' '.join(str(error).split())[:80])]
    return faults


def inspect_images(paths_and_sizes: list[tuple[str, tuple[int, int] | None]], jobs: int = 1) -> Iterator[ImageFault]:
    """Findings about many files, in their order, from ``jobs`` processes."""
    if jobs <= 1 or len(paths_and_sizes) < 64:
        for path, size in paths_and_sizes:
            yield from inspect_image(path, size)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for faults in pool.map(inspect_image, *zip(*paths_and_sizes), chunksize=32):
            yield from faults


def leaves_folder(name: str) -> bool:
    """Whether a file name of an annotation file points outside the image folder: absolute, or climbing by ``..``."""
    if os.path.isabs(name) or '\\' in name and ':' in name:
        return True
    depth = 0
    for part in Path(name).parts:
        depth += -1 if part == '..' else 1
        if depth < 0:
            return True
    return False


def _faults_of(image, path: str, size: tuple[int, int] | None) -> Iterator[ImageFault]:
    orientation = image.getexif().get(_ORIENTATION, 1)
    read = image.size[::-1] if orientation in _TRANSPOSING else image.size  # as mmcv reads it
    if size is not None and tuple(size) != read:
        detail = f'{read[0]} x {read[1]}, annotated {size[0]} x {size[1]}'
        if tuple(size) == image.size:
            detail += '; the file has an EXIF orientation that readers apply: turn the pixels for good'
        yield ImageFault('error', 'has another size than annotated', path, detail)
    elif orientation not in (0, 1):
        yield ImageFault('warning', 'has an EXIF orientation', path, f'value {orientation}')
    mode = image.mode
    if mode in ('CMYK', 'YCCK'):
        yield ImageFault('warning', 'is CMYK', path)
    elif mode.startswith('I') or mode == 'F':
        yield ImageFault('warning', 'has more than 8 bits a channel', path, mode)
    elif mode in ('1', 'L', 'LA'):
        yield ImageFault('note', 'is greyscale', path)
    elif mode != 'RGB' and mode != 'YCbCr':
        yield ImageFault('note', f'is {mode}, read as colours without alpha', path)
