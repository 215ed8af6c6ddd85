"""Images in memory, in any form in which Python programs hold them, as arrays in OpenCV's BGR order."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime import images
from vitdet_plugin.runtime.errors import ModelError

CHANNELS = ('bgr', 'rgb')


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


def as_loaded(array: np.ndarray, color_type: str) -> np.ndarray:
    """Return an image in memory as a pipeline loads a file: (H, W) for ``grayscale``, else (H, W, 3) in BGR order."""
    if color_type.startswith('grayscale'):
        return array if array.ndim == 2 else images.to_gray(bgr_array(array))
    return array if color_type == 'unchanged' else bgr_array(array)


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


def is_cut_jpeg(path: Path) -> bool:
    """Whether a JPEG file ends early; OpenCV fills the rest with gray and does not report it."""
    with open(path, 'rb') as file:
        start = file.read(2)
        file.seek(-min(images.TAIL, file.seek(0, os.SEEK_END)), os.SEEK_END)
        if not images.may_be_cut(start, file.read()):
            return False
    return images.is_cut_jpeg(path.read_bytes())


def array_of_pil(image: Any, color_type: str = 'color') -> np.ndarray:
    """Convert a PIL image to an array, uint8: (H, W, 3) in BGR order, or (H, W) in gray.

    Args:
        image: The image.
        color_type: As for :func:`vitdet_plugin.runtime.images.read_image`: whether it is turned as its EXIF
            orientation says, and converted to gray.

    Raises:
        UserError: It cannot be decoded, or its range of values is unknown.
    """
    try:
        return images.array_of_pil(image, color_type)
    except ModelError as error:
        raise UserError(f'PIL image: cannot be read ({error})') from error


def decode_image(content: bytes, color_type: str = 'color') -> np.ndarray:
    """Decode the content of an image file as :func:`vitdet_plugin.runtime.images.read_image` decodes a file.

    Raises:
        UserError: It is not an image, it ends early, or it has more pixels than OpenCV decodes.
    """
    try:
        return images.decode_image(content, color_type)
    except ModelError as error:
        raise UserError(f'{len(content)} bytes cannot be read as an image: {error}; give the content of an image file'
                        ) from error
