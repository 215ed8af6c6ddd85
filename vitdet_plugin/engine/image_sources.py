"""Images to predict, in any form in which Python programs hold them: files, folders, videos, arrays, tensors, …"""

from __future__ import annotations

import glob
import io
import itertools
import os
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, is_image_file
from vitdet_plugin.engine.video_frames import VideoFrames, is_video_file
from vitdet_plugin.errors import UserError

_TAIL = 4096  # bytes at the end of a JPEG file in which its end marker is expected
_FORMS = ('a file, a folder, a NumPy array (H, W, 3) in BGR order, a PIL image, a tensor (3, H, W) in RGB order, the '
          'bytes of an image file, or a list of these')


@dataclass(frozen=True)
class ImageSource:
    """One image to predict.

    Attributes:
        name: Path, or a description for messages.
        output: Path of a drawn image below the output folder, without suffix.
        path: Image or video file; None for an image in memory.
        array: Image in memory, (H, W, 3) uint8 in BGR order.
        video: Video that the image is a frame of.
        frame: Number of the frame, from 0.
        is_found: Whether the file was found in a folder, not named by the caller.
    """

    name: str
    output: PurePath
    path: Path | None = None
    array: np.ndarray | None = None
    video: VideoFrames | None = None
    frame: int | None = None
    is_found: bool = False

    def content(self) -> Path | np.ndarray:
        """Return the path of an image file, or the array (H, W, 3) of another image.

        Raises:
            UserError: The frame cannot be decoded.
        """
        if self.video is not None:
            assert self.frame is not None
            return self.video.read(self.frame)
        content = self.path if self.array is None else self.array
        assert content is not None
        return content


def find_images(images: Any) -> list[ImageSource]:
    """Return the images that ``images`` stands for, in the given order.

    Args:
        images: A path or pattern (``'photos/*.jpg'``) of image files, videos (each frame is an image) and folders
            (images in them and their subfolders, sorted by path); an array or tensor, see :func:`bgr_array` and
            :func:`array_of_tensor`; a PIL image; the bytes of an image file or an open binary file; or an iterable of
            these.

    Raises:
        UserError: A path that does not exist, a folder without images, or an object that is not an image.
    """
    sources = list(_sources(images))
    return [replace(source, output=PurePath(f'image_{number}'), name=f'image {number}')
            if source.path is None else source for number, source in enumerate(sources)]


def out_paths(sources: Sequence[ImageSource], out_dir: Path) -> list[Path]:
    """Return one output path per image; images that would have the same one get a number."""
    paths: list[Path] = []
    taken = set()
    for source in sources:
        for count in itertools.count(1):
            name = f'{source.output}_{count}' if count > 1 else str(source.output)
            if name.lower() not in taken:  # some file systems ignore case
                break
        taken.add(name.lower())
        paths.append(out_dir / f'{name}.jpg')
    return paths


def _sources(images: Any) -> Iterator[ImageSource]:
    if isinstance(images, (str, os.PathLike)):
        yield from _files(os.fspath(images))
    elif isinstance(images, np.ndarray):
        for array in images if images.ndim == 4 else [images]:
            yield _in_memory(bgr_array(array))
    elif isinstance(images, torch.Tensor):
        for tensor in images if images.ndim == 4 else [images]:
            yield _in_memory(array_of_tensor(tensor))
    elif isinstance(images, (bytes, bytearray, memoryview)):
        yield _in_memory(_decode(bytes(images)))
    elif hasattr(images, 'read') and not hasattr(images, 'getbands'):
        content = images.read()
        if not isinstance(content, bytes):
            raise UserError(f'{getattr(images, "name", "file")} is open as text; open it with mode "rb"')
        yield _in_memory(_decode(content))
    elif hasattr(images, 'getbands'):
        yield _in_memory(_array_of_pil(images))
    elif isinstance(images, Iterable) and not isinstance(images, Mapping):
        for each in images:
            yield from _sources(each)
    else:
        raise UserError(f'{"None" if images is None else type(images).__name__} is not an image; give {_FORMS}')


def _in_memory(array: np.ndarray) -> ImageSource:
    return ImageSource('image', PurePath('image'), array=array)


def _files(name: str | bytes) -> Iterator[ImageSource]:
    name = os.fsdecode(name)
    if '://' in name:
        parts = urllib.parse.urlparse(name)
        if parts.scheme != 'file':
            raise UserError(f'{name} is a URL; download the image and give its path')
        name = urllib.request.url2pathname(parts.path)
    if not name:
        raise UserError('the path of an image is empty; give an image or a folder of images')
    path = Path(name).expanduser()
    if path.is_dir():
        found = sorted(file for file in path.rglob('*') if is_image_file(file) and not file.is_dir())
        if not found:
            raise UserError(f'{path} holds no images ({", ".join(IMAGE_SUFFIXES[:6])} …)')
        for file in found:
            yield ImageSource(str(file), file.relative_to(path).with_suffix(''), file, is_found=True)
    elif path.is_file() and is_video_file(path):
        video = VideoFrames(path)
        for frame in range(len(video)):
            yield ImageSource(f'{path} frame {frame}', PurePath(f'{path.stem}_{frame:06}'), path, video=video,
                              frame=frame)
    elif path.is_file():
        yield ImageSource(str(path), PurePath(path.stem), path)
    elif glob.has_magic(name):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(f'{path} matches no file; give another pattern, an image or a folder of images')
        for match in matches:
            yield from _files(match)
    else:
        raise UserError(f'{path} does not exist; give an image or a folder of images')


def bgr_array(array: np.ndarray) -> np.ndarray:
    """Return an array (H, W, 3) uint8 in BGR order.

    Args:
        array: (H, W, 3) in OpenCV's BGR order; (H, W) or (H, W, 1) in gray; or (H, W, 4), of which the alpha channel is
            left out. uint8.

    Raises:
        UserError: Another shape or type, or no pixels.
    """
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or array.dtype != np.uint8 or not array.size:
        hint = '; multiply values in [0, 1] by 255 and convert them' if array.dtype.kind == 'f' else ''
        raise UserError(f'image array: expected (H, W, 3) uint8 in BGR order, got {array.shape} {array.dtype}{hint}')
    return np.ascontiguousarray(np.repeat(array, 3, 2) if array.shape[2] == 1 else array[..., :3])


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


def _array_of_pil(image: Any) -> np.ndarray:
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith('I'):  # 16 bits, which PIL would clip at 255
            return bgr_array((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        if image.mode == 'F':
            raise UserError('PIL image of mode F: its range is unknown; convert it to mode RGB or L')
        return bgr_array(np.asarray(image.convert('RGB'))[..., ::-1])
    except OSError as error:
        raise UserError(f'PIL image: cannot be read ({error})') from error


def _decode(content: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None or is_cut_jpeg(io.BytesIO(content)):
        raise UserError(f'{len(content)} bytes cannot be read as an image; give the content of an image file')
    return image
