"""Files of packed samples, mapped into memory by every process that reads them.

Layout: header; samples, one pickle after the other; end of each sample, int64; categories and images of annotations,
int64; description, JSON. The header has the sizes and a checksum of all that follows. A file is complete or absent,
and is never changed. Samples are pickles, so a file is used only if no other user could have written it.
"""

from __future__ import annotations

import json
import mmap
import multiprocessing.context
import os
import stat
import struct
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from vitdet_plugin.errors import UserError

_MAGIC = b'VITDETS1'
_HEADER = struct.Struct('<8sQQQQI')  # magic, bytes of samples, samples, annotations, bytes of description, checksum
_START = 64  # of the samples
_BLOCK = 2**22
_Identity = tuple[int, int, int]


class MappedBytes(np.ndarray):
    """Bytes of a mapped file, shape (N,), uint8, read-only.

    Copies share the memory. Spawned processes map the file again instead of receiving its content.
    """

    source: tuple[str, _Identity] | None = None  # path and identity; not of slices and computed arrays

    def __deepcopy__(self, memo: dict | None = None) -> MappedBytes:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        if self.source is not None and multiprocessing.context.get_spawning_popen() is not None:
            path, identity = self.source
            if os.path.exists(path) and _identity(os.stat(path)) == identity:
                return _map_again, self.source
        return np.array(self, copy=True, subok=False).__reduce_ex__(protocol)


class PackedSamples(NamedTuple):
    """Content of a file of samples.

    Attributes:
        data: The pickles, shape (bytes,), uint8.
        ends: End of each in ``data``, shape (samples,), int64.
        categories: Category id of every annotation of the annotation file, shape (annotations,), int64.
        images: Image id of each, shape (annotations,), int64.
        about: Other values.
    """

    data: np.ndarray
    ends: np.ndarray
    categories: np.ndarray
    images: np.ndarray
    about: dict


class SampleWriter:
    """Write a file of samples under a name that nobody reads.

    Args:
        file: Empty file, open for writing and reading.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._checksum = 0

    def write(self, samples: Iterable[bytes], categories: np.ndarray, images: np.ndarray, about: dict) -> None:
        """Write everything; see :class:`PackedSamples`.

        Raises:
            OSError: No space is left.
        """
        self._file.write(bytes(_START))
        ends, end = [], 0
        for sample in samples:
            end += self._add(sample)
            ends.append(end)
        self._add(bytes(-end % 8))
        for values in (ends, categories, images):
            self._add(np.asarray(values, np.int64).tobytes())
        size = self._add(json.dumps(about).encode())
        self._file.seek(0)
        self._file.write(_HEADER.pack(_MAGIC, end, len(ends), len(categories), size, self._checksum))
        self._file.flush()

    def _add(self, content: bytes) -> int:
        self._checksum = zlib.crc32(content, self._checksum)
        self._file.write(content)
        return len(content)


def write_sample_file(path: Path, samples: Iterable[bytes], categories: np.ndarray, images: np.ndarray,
                      about: dict) -> None:
    """Write a file of samples, which appears complete or not at all.

    Raises:
        OSError: It cannot be written.
    """
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f'{path.name}.', suffix='.part')
    try:
        with open(handle, 'w+b') as file:
            SampleWriter(file).write(samples, categories, images, about)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def read_sample_file(path: Path) -> PackedSamples | None:
    """Map a file of samples; None if it is absent, damaged, or could have been written by another user.

    Raises:
        OSError: It cannot be read.
    """
    try:
        file = open(path, 'rb')
    except FileNotFoundError:
        return None
    with file:
        return read_samples(file, str(path)) if is_own(os.fstat(file.fileno())) else None


def read_samples(file: BinaryIO, path: str | None) -> PackedSamples | None:
    """Map an open file of samples; None if it is damaged.

    Args:
        file: The file, of which nothing is in a buffer.
        path: Its path, if other processes can open it.
    """
    status = os.fstat(file.fileno())
    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    magic, used, count, objects, size, checksum = _HEADER.unpack(header)
    rest = _START + used + -used % 8
    if magic != _MAGIC or status.st_size != rest + 8 * (count + 2 * objects) + size:
        return None
    file.seek(_START)
    found = 0
    while block := file.read(_BLOCK):
        found = zlib.crc32(block, found)
    if found != checksum:
        return None
    file.seek(rest)
    ends, categories, images = (np.frombuffer(file.read(8 * number), np.int64).copy()
                                for number in (count, objects, objects))
    about = json.loads(file.read())
    return PackedSamples(_map(file, used, path), ends, categories, images, about)


def is_own(status: os.stat_result) -> bool:
    """Whether a file or folder belongs to this user or root, and no other user can write it."""
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _map(file: BinaryIO, used: int, path: str | None) -> MappedBytes:
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    data = np.frombuffer(mapped, np.uint8, used, _START).view(MappedBytes)
    data.source = None if path is None else (path, _identity(os.fstat(file.fileno())))
    return data


def _map_again(path: str, identity: _Identity) -> MappedBytes:
    with open(path, 'rb') as file:
        if _identity(os.fstat(file.fileno())) != identity:
            raise UserError(f'{path} was replaced while a data worker started; start again')
        return _map(file, _HEADER.unpack(file.read(_HEADER.size))[1], path)


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size  # files are never changed; the time is that of the last use
