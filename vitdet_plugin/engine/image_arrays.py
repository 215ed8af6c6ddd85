"""Images in memory, in any form in which Python programs hold them, as arrays in OpenCV's BGR order."""

from __future__ import annotations

import io
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from vitdet_plugin.errors import UserError

CHANNELS = ('bgr', 'rgb')
_TAIL = 4096  # bytes at the end of a JPEG file in which its end marker is expected


def bgr_array(array: np.ndarray, channels: str = 'bgr') -> np.ndarray:
    """Return an array (H, W, 3) uint8 in BGR order.

    Args:
        array: (H, W, 3) in the order of ``channels``; (H, W) or (H, W, 1) in gray; or (H, W, 4), of which the alpha
            channel is left out. uint8.
        channels: Order of the color channels, ``'bgr'`` (OpenCV) or ``'rgb'``.

    Raises:
        UserError: Another shape or type, or no pixels.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.dtype != np.uint8 or not array.size:
        hint = '; multiply values in [0, 1] by 255 and convert them' if array.dtype.kind == 'f' else ''
        raise UserError(f'image array: expected (H, W, 3) uint8 in BGR order, got {array.shape} {array.dtype}{hint}')
    if array.shape[2] == 1:
        return np.repeat(array, 3, 2)
    return np.ascontiguousarray(array[..., :3] if channels == 'bgr' else array[..., 2::-1])


def array_of_tensor(tensor: torch.Tensor) -> np.ndarray:
    """Convert an image as torchvision holds it to an array (H, W, 3) uint8 in BGR order.

    Args:
        tensor: (3, H, W) in RGB order, or (1, H, W) in gray; uint8, or floating point in [0, 1].

    Raises:
        UserError: Another shape, type or range.
    """
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or not tensor.numel():
        raise UserError(f'image tensor: expected (3, H, W) in RGB order, got {tuple(tensor.shape)}')
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        if not bool(((tensor >= 0) & (tensor <= 1)).all()):
            raise UserError('image tensor: floating-point values must be in [0, 1]; give uint8 for values up to 255, '
                            'without normalization')
        tensor = (tensor.float() * 255).round().to(torch.uint8)
    if tensor.dtype != torch.uint8:
        raise UserError(f'image tensor: expected uint8, or floating point in [0, 1], got {tensor.dtype}')
    return bgr_array(tensor.permute(1, 2, 0).numpy()[..., ::-1])


def is_cut_jpeg(file: Path | BinaryIO) -> bool:
    """Whether a JPEG file ends early; OpenCV fills the rest with gray and does not report it."""
    with open(file, 'rb') if isinstance(file, Path) else nullcontext(file) as stream:
        if stream.read(2) != b'\xff\xd8':
            return False
        stream.seek(-min(_TAIL, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        if stream.read().rstrip(b'\0').endswith(b'\xff\xd9'):
            return False
        stream.seek(0)  # other data may follow the image, so it has to be decoded
        try:
            with Image.open(stream) as image:
                image.load()
        except OSError as error:
            return 'truncated' in str(error)
    return False


def array_of_pil(image: Any) -> np.ndarray:
    """Convert a PIL image, turned as its EXIF orientation says, to an array (H, W, 3) uint8 in BGR order.

    Raises:
        UserError: It cannot be decoded, or its range of values is unknown.
    """
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith('I'):  # 16 bits, which PIL would clip at 255
            return bgr_array((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        if image.mode == 'F':
            raise UserError('PIL image of mode F: its range is unknown; convert it to mode RGB or L')
        return bgr_array(np.asarray(image.convert('RGB'))[..., ::-1])
    except OSError as error:
        raise UserError(f'PIL image: cannot be read ({error})') from error


def decode_image(content: bytes) -> np.ndarray:
    """Decode the content of an image file to an array (H, W, 3) uint8 in BGR order.

    Raises:
        UserError: It is not an image, it ends early, or it has more pixels than OpenCV decodes.
    """
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    except cv2.error as error:  # its limit of pixels
        raise UserError(f'an image of {len(content)} bytes has more pixels than OpenCV decodes; reduce it, or set the '
                        'environment variable OPENCV_IO_MAX_IMAGE_PIXELS') from error
    if image is None or is_cut_jpeg(io.BytesIO(content)):
        raise UserError(f'{len(content)} bytes cannot be read as an image; give the content of an image file')
    return image
