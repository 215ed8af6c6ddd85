"""Findings about image files: all of them are opened and decoded."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import NamedTuple

from vitdet_plugin.datasets.image_probe import NOT_DECODED, ImageProbe, UnreadableImage, decoder_limits, probe_image
from vitdet_plugin.datasets.image_reader import DEFAULT_READER, ImageReader
from vitdet_plugin.datasets.unusual_images import describe_depth
from vitdet_plugin.utils.track import track

DEEP = 'has more than 8 bits per channel'
WRONG_SIZE = 'has another size than annotated'
_SERIAL = 64  # up to this number of images, starting processes takes longer than it saves
_USUAL_FORMATS = ('JPEG', 'MPO', 'PNG', 'WEBP', 'BMP', 'GIF', 'PPM')  # OpenCV reads what Pillow reads


class ImageFault(NamedTuple):
    """One finding about one file; ``level`` is 'error', 'warning' or 'note'."""

    level: str
    kind: str
    path: str
    detail: str = ''

    def __str__(self) -> str:
        return f'{self.path}: {self.kind}' + (f' ({self.detail})' if self.detail else '')


def check_image(path: str, size: tuple[float, float] | None = None, reader: ImageReader = DEFAULT_READER,
                probe: ImageProbe | None = None) -> list[ImageFault]:
    """Open and decode a file.

    Args:
        path: Image file.
        size: (width, height) in pixels that the annotations state, if any.
        reader: How the pipeline reads the file.
        probe: Its properties, if it was decoded with this reader before.

    Returns:
        Errors: missing, empty, truncated or not decodable, not readable by OpenCV (floating point, 32 bits), another
        size than annotated, implausibly large. Warnings: an EXIF orientation (OpenCV and so mmcv apply it), one that
        OpenCV ignores, CMYK and 16 bits (reduced to 8-bit BGR), further frames or pages. Notes: grayscale, palette and
        alpha (read as BGR without loss, or without the alpha channel).
    """
    with decoder_limits():
        found = probe or probe_image(path, reader=reader)
        if isinstance(found, UnreadableImage):
            return [ImageFault('error', found.kind, path, found.detail)]
        return list(_probe_faults(found, path, size, reader))


def check_images(paths: Sequence[str], sizes: Sequence[tuple[float, float] | None], jobs: int = 1,
                 reader: ImageReader = DEFAULT_READER, probes: Mapping[str, ImageProbe] | None = None
                 ) -> list[ImageFault]:
    """Return the findings about many files in their order, with up to ``jobs`` processes.

    Args:
        paths: Image files.
        sizes: Annotated (width, height) in pixels of each.
        jobs: Processes.
        reader: How the pipeline reads the files.
        probes: Properties by absolute path of files that were decoded with the default reader; they are not decoded
            again.
    """
    known = [probes.get(os.path.abspath(path)) if probes and reader == DEFAULT_READER else None for path in paths]
    if jobs <= 1 or known.count(None) < _SERIAL:
        rows = track(zip(paths, sizes, known), len(paths), 'images')
        return [fault for path, size, probe in rows for fault in check_image(path, size, reader, probe)]
    with ProcessPoolExecutor(jobs) as pool:
        found = track(pool.map(check_image, paths, sizes, repeat(reader), known, chunksize=32), len(paths), 'images')
        return [fault for faults in found for fault in faults]


def check_sizes(paths: Sequence[str], sizes: Sequence[tuple[float, float] | None],
                reader: ImageReader = DEFAULT_READER) -> list[ImageFault]:
    """Return the files whose size as read differs from the annotated one; only the headers are read."""
    with decoder_limits(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        probes = pool.map(partial(probe_image, decode=False, reader=reader), paths)
        found = track(zip(paths, sizes, probes), len(paths), 'image sizes')
        return [ImageFault('error', WRONG_SIZE, path, difference) for path, size, probe in found
                if size is not None and isinstance(probe, ImageProbe) and (difference := probe.compare_size(size))]


def _probe_faults(probe: ImageProbe, path: str, size: tuple[float, float] | None,
                  reader: ImageReader) -> Iterator[ImageFault]:
    is_usual = probe.format in _USUAL_FORMATS and probe.depth <= 8 and probe.other_format == ''
    if reader.backend == 'cv2' and not is_usual:
        if reader.decode(path) is None:
            advice = 'convert it to 8 bits' if probe.depth > 8 else 'save it as PNG'
            yield ImageFault('error', NOT_DECODED, path, f'{probe.depth}-bit {probe.mode} {probe.format}; {advice}')
            return
    if size is not None and (difference := probe.compare_size(size)):
        yield ImageFault('error', WRONG_SIZE, path, difference)
    elif probe.is_rotated:
        yield ImageFault('warning', 'has an EXIF orientation', path, f'value {probe.orientation}')
    elif probe.ignored_orientation != 1:
        yield ImageFault('warning', 'has an orientation that is not applied to this kind of file', path,
                         f'value {probe.ignored_orientation}, {probe.format}')
    if probe.has_frames:
        yield ImageFault('warning', 'has several frames or pages, of which the first is read', path)
    if probe.depth > 8:
        yield ImageFault('warning', DEEP, path, describe_depth(path, probe.depth))
    elif probe.mode in ('CMYK', 'YCCK'):
        yield ImageFault('warning', 'is CMYK', path)
    elif probe.mode in ('1', 'L', 'LA'):
        yield ImageFault('note', 'is grayscale', path)
    elif probe.mode not in ('RGB', 'YCbCr'):
        yield ImageFault('note', f'is {probe.mode}, read as color without alpha', path)
