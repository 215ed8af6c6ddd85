"""Images to predict, in any form in which Python programs name or hold them: files, folders, videos, arrays, …"""

from __future__ import annotations

import glob
import itertools
import os
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from vitdet_plugin.datasets.archives import archive_suffix
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, is_image_file, is_resource_fork
from vitdet_plugin.engine.image_arrays import CHANNELS, array_of_pil, array_of_tensor, bgr_array, decode_image
from vitdet_plugin.engine.image_source import Clip, ImageSource
from vitdet_plugin.engine.image_urls import is_web_address, path_of_url
from vitdet_plugin.engine.video_frames import LiveFrames, VideoFrames, is_live, is_video_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.distinct_names import OutputNames
from vitdet_plugin.utils.output import warn
from vitdet_plugin.utils.text import counted
from vitdet_plugin.utils.text_files import read_text

STDIN = '-'  # a list of paths on standard input
_FORMS = ('a file, a folder, a NumPy array (H, W, 3) in BGR order, a PIL image, a tensor (3, H, W) in RGB order, the '
          'bytes of an image file, or a list of these')


@dataclass(frozen=True)
class _Later:
    """Sources that are produced one by one.

    Attributes:
        sources: Produces them.
        total: Their number as far as it is known.
        is_endless: Whether they may never end, so that they cannot be listed.
    """

    sources: Callable[[], Iterator[ImageSource]]
    total: int | None = None
    is_endless: bool = False


class ImageStream:
    """Images that are found and produced while they are read, for more than fit into memory.

    Args:
        images: As for :func:`find_images`, and generators, cameras (``camera:0``), streams (``rtsp://…``) and ``'-'``,
            a list of paths on standard input. What can be checked at once is; generators and lists on standard input
            are read when they are needed.
        channels: Order of the color channels of arrays, ``'bgr'`` or ``'rgb'``.
        color_type: How encoded images in memory and PIL images are decoded, as ``LoadImageFromFile`` decodes files.

    Attributes:
        total: Number of images, for videos according to their headers; None if it is not known.

    Raises:
        UserError: A path that does not exist, a folder without images, or an object that is not an image.
    """

    def __init__(self, images: Any, channels: str = 'bgr', color_type: str = 'color') -> None:
        if channels not in CHANNELS:
            raise UserError(f'channels={channels!r}: choose from {", ".join(CHANNELS)}')
        is_generator = isinstance(images, Iterator) and not hasattr(images, 'read')
        self._entries = _entries(images, channels, color_type) if is_generator else \
            list(_entries(images, channels, color_type))
        self.total: int | None = None
        if not isinstance(self._entries, Iterator):
            counts = [each.total if isinstance(each, _Later) else 1 for each in self._entries]
            self.total = None if None in counts else sum(counts)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[ImageSource]:
        flat = (source for entry in self._entries
                for source in (entry.sources() if isinstance(entry, _Later) else [entry]))
        return map(_numbered, itertools.count(), flat)


def find_images(images: Any, channels: str = 'bgr', color_type: str = 'color') -> list[ImageSource]:
    """Return the images that ``images`` stands for, in the given order.

    Args:
        images: A path or pattern (``'photos/*.jpg'``) of image files, videos (each frame is an image), folders (images
            in them and their subfolders, sorted by path) and text files with a path per line; an ``http(s)`` URL of an
            image; an array or tensor, see :func:`bgr_array` and :func:`array_of_tensor`; a PIL image; the bytes of an
            image file or an open binary file; or an iterable of these.
        channels: Order of the color channels of arrays.
        color_type: As for :class:`ImageStream`.

    Raises:
        UserError: A path that does not exist, a folder without images, or an object that is not an image.
    """
    sources: list[ImageSource] = []
    for entry in _entries(images, channels, color_type):
        if isinstance(entry, _Later) and entry.is_endless:
            raise UserError('cameras and streams have no list of images; give files, folders or videos')
        sources += map(_by_frame, entry.sources()) if isinstance(entry, _Later) else [entry]
    return [_numbered(number, source) for number, source in enumerate(sources)]


def out_paths(sources: Sequence[ImageSource], out_dir: Path) -> list[Path]:
    """Return one output path per image; images that would have the same one get a number."""
    names = OutputNames()
    return [out_dir / f'{names.new(source.output)}.jpg' for source in sources]


def _numbered(number: int, source: ImageSource) -> ImageSource:
    if source.path is not None or source.fault is not None:
        return source
    return replace(source, output=PurePath(f'image_{number}'), name=f'image {number}')


def _by_frame(source: ImageSource) -> ImageSource:
    """Leave the decoding of a frame to ``content``, as the frames of a list do not fit into memory."""
    return source if source.video is None else replace(source, array=None)


def _entries(images: Any, channels: str, color_type: str) -> Iterator[ImageSource | _Later]:
    if isinstance(images, (str, os.PathLike)):
        yield from _files(os.fspath(images), channels, color_type)
    elif isinstance(images, np.ndarray):
        for array in images if images.ndim == 4 else [images]:
            yield _in_memory(bgr_array(array, channels))
    elif isinstance(images, torch.Tensor):
        for tensor in images if images.ndim == 4 else [images]:
            yield _in_memory(array_of_tensor(tensor))
    elif isinstance(images, (bytes, bytearray, memoryview)):
        yield _in_memory(decode_image(bytes(images), color_type))
    elif hasattr(images, 'read') and not hasattr(images, 'getbands'):
        content = images.read()
        if not isinstance(content, bytes):
            raise UserError(f'{getattr(images, "name", "file")} is open as text; open it with mode "rb"')
        yield _in_memory(decode_image(content, color_type))
    elif hasattr(images, 'getbands'):
        yield _in_memory(array_of_pil(images, color_type))
    elif isinstance(images, Iterable) and not isinstance(images, Mapping):
        for each in images:
            yield from _entries(each, channels, color_type)
    else:
        raise UserError(f'{"None" if images is None else type(images).__name__} is not an image; give {_FORMS}')


def _in_memory(array: np.ndarray) -> ImageSource:
    return ImageSource('image', PurePath('image'), array=array)


def _files(name: str | bytes, channels: str, color_type: str) -> Iterator[ImageSource | _Later]:
    name = os.fsdecode(name)
    if name == STDIN:
        yield _Later(lambda: _listed(_lines_of_stdin(), None, color_type))
        return
    if is_live(name):
        yield _Later(lambda: _live(name, is_live=True), is_endless=True)
        return
    if is_web_address(name):
        address = path_of_url(name)
        if is_video_file(address):
            yield _Later(lambda: _live(name, is_live=False), is_endless=True)
        else:
            yield ImageSource(name, PurePath(address.stem or 'image'), name, color_type=color_type)
        return
    if '://' in name:
        if not name.lower().startswith('file://'):
            raise UserError(f'{name} is a URL; download the image and give its path')
        name = urllib.request.url2pathname(str(path_of_url(name)))
    if not name:
        raise UserError('the path of an image is empty; give an image or a folder of images')
    path = Path(name).expanduser()
    if path.is_dir():
        yield from _folder(path)
    elif path.is_file() and is_video_file(path):
        try:
            video = VideoFrames(path)
        except UserError as error:
            yield ImageSource(str(path), PurePath(path.stem), path, fault=error)
        else:
            yield _Later(lambda: _frames(video), video.estimate or None)
    elif path.is_file() and path.suffix.lower() == '.txt':
        yield from _listed(read_text(path).split('\n'), path.parent, color_type)
    elif path.is_file() and archive_suffix(path):
        raise UserError(f'{path} is an archive; unpack it, and give the folder of its images')
    elif path.is_file():
        yield ImageSource(str(path), PurePath(path.stem), path)
    elif glob.has_magic(name):
        matches = sorted(glob.glob(str(path), recursive=True))
        if not matches:
            raise UserError(f'{path} matches no file; give another pattern, an image or a folder of images')
        for match in matches:
            yield from _files(match, channels, color_type)
    else:
        raise UserError(f'{path} does not exist; give an image or a folder of images')


def _folder(path: Path) -> Iterator[ImageSource]:
    inside_it = sorted(path.rglob('*'))
    found = [file for file in inside_it if is_image_file(file) and not file.is_dir()
             and not is_resource_fork(file.relative_to(path))]
    videos = [file for file in inside_it if is_video_file(file) and file.is_file()]
    if not found:
        hint = f'; it holds {counted(len(videos), "video")}: name them, such as {videos[0]}' if videos else ''
        raise UserError(f'{path} holds no images ({", ".join(IMAGE_SUFFIXES[:6])} …){hint}')
    if videos:
        warn(f'{path}: {counted(len(videos), "video")} left out, as folders stand for their images; name a video to '
             f'use it, such as {videos[0]}')
    for file in found:
        inside = file.relative_to(path)
        is_hidden = any(part.startswith('.') for part in inside.parts)
        yield ImageSource(str(file), inside.with_suffix(''), file, is_found=True, is_hidden=is_hidden)


def _listed(lines: Iterable[str], folder: Path | None, color_type: str) -> Iterator[ImageSource]:
    """Yield the images of a list with a path per line; a line that is none becomes a source with a fault.

    Args:
        lines: Paths, relative to the current folder or else to ``folder``; blank lines and those after ``#`` are left
            out.
        folder: Folder of the list, if it is a file.
        color_type: As for :class:`ImageStream`.
    """
    for line in lines:
        name = line.strip()
        if not name or name.startswith('#'):
            continue
        if folder is not None and '://' not in name and not os.path.exists(name) and (folder / name).exists():
            name = str(folder / name)
        try:
            if name == STDIN:
                raise UserError(f'{name} stands for standard input, which cannot be in a list')
            for entry in _files(name, 'bgr', color_type):
                sources = entry.sources() if isinstance(entry, _Later) else [entry]
                yield from (replace(source, is_found=True) for source in sources)
        except UserError as error:
            yield ImageSource(name, PurePath(Path(name).stem), is_found=True, fault=error)


def _lines_of_stdin() -> Iterator[str]:
    try:
        handle = os.dup(sys.stdin.fileno())
    except (OSError, ValueError):  # replaced by an object of the program
        yield from sys.stdin
        return
    # sys.stdin itself is locked while a thread waits for a line, and the interpreter needs the lock to end
    with open(handle, encoding='utf-8', errors='surrogateescape') as lines:
        yield from lines


def _frames(video: VideoFrames) -> Iterator[ImageSource]:
    clip = Clip(str(video.path), PurePath(video.path.stem), video.rate)
    try:
        for frame, image in enumerate(video):
            yield ImageSource(f'{video.path} frame {frame}', PurePath(f'{video.path.stem}_{frame:06}'), video.path,
                              image, video, frame, clip)
    except UserError as error:
        yield ImageSource(str(video.path), clip.output, video.path, is_found=True, fault=error)


def _live(name: str, is_live: bool) -> Iterator[ImageSource]:
    frames = LiveFrames(name)
    stem = name.replace(':', '_') if name.startswith('camera:') else path_of_url(name).stem
    clip = Clip(name, PurePath(stem or 'stream'), frames.rate, is_live)
    for frame, image in enumerate(frames):
        yield ImageSource(f'{name} frame {frame}', PurePath(f'{clip.output}_{frame:06}'), name, image, None, frame,
                          clip)
