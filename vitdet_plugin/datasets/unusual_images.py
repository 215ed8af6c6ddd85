"""Why an image file is not read, and which values are read from a file with more than 8 bits per channel."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from vitdet_plugin.datasets.image_probe import UnreadableImage, bits_per_channel, decoder_limits, probe_image
from vitdet_plugin.datasets.image_reader import DEFAULT_READER, ImageReader, decode

DARK = 64  # of 255: an image that is below this everywhere looks black
_PNG = b'\x89PNG\r\n\x1a\n'
_PNG_DEPTH = 24  # offset of the byte with the bits per channel
_OF_FRAMES = ('.tif', '.tiff', '.gif', '.webp')
_EIGHT_BITS = (b'\xff\xd8\xff', b'BM', b'GIF8', b'RIFF')  # JPEG, BMP, GIF, WebP


def describe_unreadable(path: str | os.PathLike, reader: ImageReader = DEFAULT_READER) -> str:
    """Return why training and prediction cannot read a file, or an empty text if they can.

    Args:
        path: Image file; it is decoded.
        reader: How it is read.
    """
    with decoder_limits():
        probe = probe_image(path, reader=reader)
        if isinstance(probe, UnreadableImage):
            return f'the file {probe}'
        if reader.backend != 'cv2' or reader.decode(path) is not None:
            return ''
    kind = f'{probe.depth}-bit {probe.mode} {probe.format}'
    return f'OpenCV does not read {kind}; {"convert it to 8 bits" if probe.depth > 8 else "save it as PNG"}'


def describe_depth(path: str | os.PathLike, depth: int) -> str:
    """Return the range of the stored values and of those that OpenCV makes of them.

    Args:
        path: Image file with more than 8 bits per channel.
        depth: Its bits per channel.
    """
    stored, read = decode(path, cv2.IMREAD_UNCHANGED), decode(path)
    if stored is None or read is None:
        return f'{depth} bits, which OpenCV {cv2.__version__} does not read; convert it to 8 bits'
    text = (f'{depth} bits, values {np.min(stored):g} to {np.max(stored):g} are read as {read.min()} to '
            f'{read.max()}')
    if read.max() < DARK:
        text += ', nearly black'
    return f'{text}; scale the values to 8 bits'


def stored_bits(path: str | os.PathLike) -> int:
    """Return the bits per channel of an image file by its header; 8 if they are not known."""
    try:
        with open(path, 'rb') as file:
            head = file.read(32)
        if head.startswith(_PNG) and len(head) > _PNG_DEPTH:
            return head[_PNG_DEPTH]
        if head.startswith(_EIGHT_BITS):
            return 8
        with decoder_limits(), Image.open(Path(path)) as image:
            return bits_per_channel(image)
    except UnidentifiedImageError:  # such as floating-point color
        stored = decode(path, cv2.IMREAD_UNCHANGED)
        return 8 if stored is None else 8 * stored.dtype.itemsize
    except Exception:  # decoders raise almost anything on damaged data
        return 8


def has_several_frames(path: str | os.PathLike) -> bool:
    """Whether a TIFF, GIF or WebP file has several pages or frames, of which the first is read."""
    if Path(path).suffix.lower() not in _OF_FRAMES:
        return False
    try:
        with decoder_limits(), Image.open(Path(path)) as image:
            return bool(getattr(image, 'is_animated', False))
    except Exception:  # decoders raise almost anything on damaged data
        return False
