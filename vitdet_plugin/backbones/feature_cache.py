"""Features of a frozen network, stored on disk under the content of each image."""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitdet_plugin.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: concurrent runs must not share the folder there
    fcntl = None  # type: ignore[assignment]

VERSION = 1  # of the files; change it when the features of unchanged weights change
MAX_BYTES = 8 * 2**30  # of one file


class FeatureCache:
    """Look up the features of each image of a batch; compute and store those that are missing.

    Key is the content of the image after the whole pipeline, so a changed data set, pipeline or normalization finds
    nothing old. The weights, the arguments of the network and the precision are part of the file name.

    A file has records of one size: key, float32 features, checksum. A record that was cut off or damaged is computed
    again. Concurrent processes write to files of their own and read all of them.

    Args:
        folder: Folder of the files; created with the first features.
        channels: D, the length of a feature vector.
        identity: Everything that determines the function of the network apart from its weights.
    """

    def __init__(self, folder: str | Path, channels: int, identity: str) -> None:
        self.folder, self.channels, self.identity = Path(folder).expanduser(), channels, identity
        self.hits = self.misses = 0
        self._passes_without_hits = self._looked_up = 0
        self._stores: dict[str, _Store] = {}
        self._weights = ''

    def __deepcopy__(self, memo: dict) -> FeatureCache:
        return self  # averaged models: the files are shared

    def __reduce__(self) -> tuple[Any, ...]:
        return FeatureCache, (self.folder, self.channels, self.identity)

    def start_pass(self) -> None:
        """Read the weights again with the next batch: call it when they may have changed and at the start of epochs."""
        self._weights = ''
        before, self._looked_up = self._looked_up, self.hits + self.misses
        if self._looked_up > before and not self.hits:
            self._passes_without_hits += 1
            if self._passes_without_hits == 3:  # training, validation, training
                warnings.warn(f'feature_cache: none of {self.misses} images occurred twice, so nothing is saved; '
                              'remove random transforms other than flips from the pipeline, or remove feature_cache',
                              stacklevel=2)

    def features(self, images: Tensor, weights: Callable[[], Mapping[str, Tensor]],
                 compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the features of a batch.

        Args:
            images: (B, C, H, W).
            weights: Returns the state dict of the network.
            compute: Maps (N, C, H, W) to features (N, D), for N from 1 to B.

        Returns:
            (B, D), float32.
        """
        self._weights = self._weights or _fingerprint(weights(), self.identity)
        store = self._store(images)
        keys = [hashlib.blake2b(_bytes(image), key=str(tuple(image.shape)).encode(), digest_size=16).digest()
                for image in images]
        found = {key: store.get(key) for key in keys}
        rows = {key: row for key, row in found.items() if row is not None}
        missing = {key: index for index, key in enumerate(keys) if key not in rows}
        if missing:
            computed = compute(images[list(missing.values())]).detach().float().cpu().numpy()
            new = dict(zip(missing, computed, strict=True))
            store.add(new)
            rows.update(new)
        self.misses += len(missing)
        self.hits += len(keys) - len(missing)
        return torch.from_numpy(np.stack([rows[key] for key in keys])).to(images.device)

    def _store(self, images: Tensor) -> _Store:
        device = images.device.type
        precision = f'{device} {images.dtype}'
        if torch.is_autocast_enabled(device):
            precision += f' {torch.get_autocast_dtype(device)}'
        name = hashlib.blake2b(f'{VERSION} {self._weights} {precision}'.encode(), digest_size=12).hexdigest()
        if name not in self._stores:
            self._stores[name] = _Store(self.folder, name, self.channels)
        return self._stores[name]


class _Store:
    """The records of one network; see :class:`FeatureCache`."""

    def __init__(self, folder: Path, name: str, channels: int) -> None:
        self.dtype = np.dtype([('key', 'V16'), ('features', '<f4', (channels,)), ('checksum', '<u4')])
        self.index: dict[bytes, tuple[int, int]] = {}
        self.tables: list[np.ndarray] = []
        self.can_write = True
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = self._open(folder, name)
        except OSError as error:
            raise UserError(f'feature_cache: {folder} cannot be used ({error.strerror}); choose another folder') \
                from error
        for path in sorted(folder.glob(f'{name}.*')):
            if not os.path.samestat(path.stat(), os.fstat(self.file.fileno())):
                self.tables.append(self._table(path))
        self.tables.append(np.empty(0, self.dtype))
        self._read_own()
        for number, table in enumerate(self.tables[:-1]):
            self.index.update({bytes(key): (number, row) for row, key in enumerate(table['key'])})

    def _open(self, folder: Path, name: str) -> Any:
        """Open the first file that no other process writes to, without a record that was cut off."""
        number = 0
        while True:
            file = open(folder / f'{name}.{number}', 'ab')
            try:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                number += 1
                continue
            file.truncate(os.path.getsize(file.name) // self.dtype.itemsize * self.dtype.itemsize)
            return file

    def _table(self, path: str | Path) -> np.ndarray:
        rows = os.path.getsize(path) // self.dtype.itemsize
        return np.memmap(path, self.dtype, 'r', shape=rows) if rows else np.empty(0, self.dtype)

    def _read_own(self) -> None:
        before, self.tables[-1] = len(self.tables[-1]), self._table(self.file.name)
        keys = self.tables[-1]['key'][before:]
        self.index.update({bytes(key): (len(self.tables) - 1, before + row) for row, key in enumerate(keys)})

    def get(self, key: bytes) -> np.ndarray | None:
        """Return the features (D,) of a key, or None."""
        if key not in self.index:
            return None
        table, row = self.index[key]
        record = self.tables[table][row]
        return record['features'] if record['checksum'] == _checksum(key, record['features']) else None

    def add(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Append records; a full disk or a file of ``MAX_BYTES`` ends the writing with a warning."""
        if not self.can_write or not rows:
            return
        records = np.empty(len(rows), self.dtype)
        for record, (key, features) in zip(records, rows.items(), strict=True):
            record['key'] = np.void(key)
            record['features'], record['checksum'] = features, _checksum(key, features)
        problem = f'it has {MAX_BYTES / 2**30:.3g} GiB'
        if os.path.getsize(self.file.name) + records.nbytes <= MAX_BYTES:
            try:
                self.file.write(records.tobytes())
                self.file.flush()
                self._read_own()
                return
            except OSError as error:
                problem = str(error.strerror)
        self.can_write = False
        warnings.warn(f'feature_cache: {self.file.name}: {problem}; further features are not stored', stacklevel=2)


def _fingerprint(weights: Mapping[str, Tensor], identity: str) -> str:
    digest = hashlib.blake2b(identity.encode(), digest_size=16)
    for name, value in weights.items():
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(_bytes(value))
    return digest.hexdigest()


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _checksum(key: bytes, features: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(features, '<f4').tobytes(), zlib.crc32(key))
