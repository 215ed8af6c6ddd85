"""The images that a caller names: files, folders, patterns, and images in memory."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError
from .images import array_of_pil, decode_image

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.dib', '.webp', '.tif', '.tiff', '.ppm', '.pgm',
                  '.pbm', '.pnm', '.jp2', '.gif', '.avif')


@dataclass(frozen=True)
class Source:
    """One image.

    Attributes:
        name: Path, or a description for messages.
        path: The file; None for an image in memory.
        content: Returns the array of an image in memory.
        is_found: Whether the file was found in a folder, not named by the caller.
    """

    name: str
    path: str | None = None
    content: Callable[[], np.ndarray] | None = None
    is_found: bool = False


def find_sources(images: Any, color_type: str = 'color', backend: str = 'cv2') -> Iterator[Source]:
    """Yield the images that ``images`` stands for.

    Args:
        images: A file, a folder (its images and those of its subfolders, sorted by path), a pattern; an array (H, W, C)
            uint8 in BGR order or (H, W) in gray; a PIL image; the bytes of an image file; or an iterable of these.
        color_type, backend: How encoded images are decoded, see :func:`.images.read_image`.

    Raises:
        ModelError: A path that does not exist, a folder without images, or an object that is not an image.
    """
    for number, source in enumerate(_sources(images, (color_type, backend))):
        yield source if source.path is not None else Source(f'image {number}', None, source.content)


def check_array(array: np.ndarray) -> np.ndarray:
    """Return an image array (H, W) or (H, W, C).

    Raises:
        ModelError: Another shape or type, or no pixels.
    """
    if array.ndim not in (2, 3) or array.dtype != np.uint8 or not array.size:
        raise ModelError(f'image array: expected (H, W, 3) uint8 in BGR order, got {array.shape} {array.dtype}')
    return array


def _sources(images: Any, decoding: tuple[str, str]) -> Iterator[Source]:
    if isinstance(images, (str, os.PathLike)):
        yield from _files(os.fspath(images))
    elif isinstance(images, np.ndarray):
        for array in images if images.ndim == 4 else [images]:
            yield Source('image', None, lambda array=array: check_array(array))  # type: ignore[misc]
    elif isinstance(images, (bytes, bytearray, memoryview)):
        yield Source('image', None, lambda: decode_image(bytes(images), *decoding))
    elif hasattr(images, 'getbands'):
        yield Source('image', None, lambda: array_of_pil(images, decoding[0]))
    elif isinstance(images, Iterable) and not isinstance(images, Mapping):
        for each in images:
            yield from _sources(each, decoding)
    else:
        raise ModelError(f'{"None" if images is None else type(images).__name__} is not an image; give a file, a '
                         'folder, an array (H, W, 3) in BGR order, or a list of these')


def _files(name: str) -> Iterator[Source]:
    path = Path(name).expanduser()
    if path.is_dir():
        found = [file for file in sorted(path.rglob('*')) if file.suffix.lower() in IMAGE_SUFFIXES and not file.is_dir()
                 and not any(part.startswith('.') for part in file.relative_to(path).parts)]
        if not found:
            raise ModelError(f'{path} holds no images ({", ".join(IMAGE_SUFFIXES[:6])} …)')
        yield from (Source(str(file), str(file), is_found=True) for file in found)
    elif path.is_file():
        yield Source(str(path), str(path))
    elif glob.has_magic(name):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise ModelError(f'{path} matches no file; give another pattern, an image or a folder of images')
        for match in matches:
            yield from _files(match)
    else:
        raise ModelError(f'{path} does not exist; give an image or a folder of images')
