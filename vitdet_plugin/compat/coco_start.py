"""Large COCO files are read once on each machine: ranks, workers and later runs share the packed samples.

mmdet's ``CocoDataset`` holds the whole file as Python objects in every rank. Above :data:`SHARED_BYTES`, the first
process packs the samples into a file of the user's cache folder, and the others map it. The samples are those of mmdet.
Where this is not possible (a subclass with other rules, a file with unusual content, no space), mmdet loads the file.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitdet_plugin import __version__
from vitdet_plugin.coco.packing import CocoPacker, images_by_category
from vitdet_plugin.coco.sample_file import PackedSamples, is_own, read_sample_file, write_sample_file
from vitdet_plugin.compat.patching import Patch
from vitdet_plugin.utils.file_lock import locked
from vitdet_plugin.utils.output import suppress_output, warn

SHARED_BYTES = 32 * 2**20  # smaller files are loaded in about 3 seconds
CACHE_VARIABLE = 'VITDET_ANNOTATION_CACHE'
_KEPT = 8  # files in the cache folder
_ABANDONED = 24 * 3600  # age in seconds of unfinished files that are removed
_METHODS = ('load_data_list', 'filter_data', 'load_proposals', '_serialize_data', '_get_unserialized_subset',
            'get_data_info', '__len__')
_START = Patch('mmdet.datasets.CocoDataset', 'full_init', upstream='mmdet 3.3, onedl-mmdetection 3.5',
               why='every rank holds a large annotation file as Python objects')


def install() -> None:
    """Let mmdet's COCO data sets share the samples of large files, once."""
    _START.install(_share_or_load)


def _share_or_load(full_init):
    @functools.wraps(full_init)
    def start(self):
        if self._fully_initialized:
            return
        if not (_can_share(self) and _share(self)):
            full_init(self)

    return start


def _can_share(dataset: Any) -> bool:
    """Whether the samples depend on the file and the arguments only, by mmdet's own rules.

    A subclass whose ``parse_data_info`` also does marks that method with ``has_same_rules = True``.
    """
    from mmdet.datasets import CocoDataset
    kind, indices = type(dataset), dataset._indices
    return (os.environ.get(CACHE_VARIABLE) != 'off' and os.name == 'posix'
            and dataset.serialize_data and dataset.proposal_file is None and not dataset.backend_args
            and isinstance(dataset.ann_file, str) and os.path.isfile(dataset.ann_file)
            and os.path.getsize(dataset.ann_file) >= SHARED_BYTES
            and all(getattr(kind, name) is getattr(CocoDataset, name) for name in _METHODS)
            and (kind.parse_data_info is CocoDataset.parse_data_info
                 or getattr(kind.parse_data_info, 'has_same_rules', False))
            and kind.COCOAPI is CocoDataset.COCOAPI
            and (indices is None or type(indices) is int
                 or isinstance(indices, (list, tuple, range)) and all(type(each) is int for each in indices)
                 and all(0 <= a < b for a, b in zip(indices, indices[1:]))))


def _share(dataset: Any) -> bool:
    """Set the samples of a data set from a shared file, which is written if needed; return whether it worked."""
    try:
        key = _key(dataset)
    except (OSError, KeyError):  # no classes
        return False
    reasons = []
    for folder in _folders():
        try:
            path = folder / f'{key}.samples'
            if (packed := _read(path, key)) is None:
                _prepare_folder(folder, os.path.getsize(dataset.ann_file))
                with locked(folder / f'{key}.lock'):  # ranks of a machine wait here for the first one
                    if (packed := _read(path, key)) is None:
                        _write(dataset, path, key)
                        packed = _read(path, key)
            if packed is None or key != _key(dataset):  # the annotation file was replaced meanwhile
                return False
        except OSError as error:
            if error.filename == dataset.ann_file:
                return False
            reasons.append(f'{folder}: {error.strerror or error}')
            continue
        except Exception:  # mmdet loads the file, or says what is wrong with it
            return False
        _use(dataset, packed)
        return True
    if reasons:
        warn(f'{dataset.ann_file}: every rank loads it by itself, since its samples cannot be kept in '
             f'{" or ".join(reasons)}; set {CACHE_VARIABLE} to a folder with space')
    return False


def _key(dataset: Any) -> str:
    """Return a digest of all that the samples depend on."""
    import mmdet
    import mmengine
    kind, status = type(dataset), os.stat(dataset.ann_file)
    parts = dict(
        file=[os.path.realpath(dataset.ann_file), status.st_ino, status.st_size, status.st_mtime_ns,
              status.st_ctime_ns],  # not the device, whose number differs between the nodes of a shared folder
        versions=[__version__, mmdet.__version__, mmengine.__version__, sys.byteorder],
        kind=f'{kind.__module__}.{kind.__qualname__}',
        classes=dataset.metainfo['classes'], prefix=dataset.data_prefix, suffix=dataset.seg_map_suffix,
        text=[dataset.return_classes, repr(dataset.caption_prompt)], filter=repr(dataset.filter_cfg),
        is_test=dataset.test_mode, indices=repr(dataset._indices), unique=dataset.ANN_ID_UNIQUE)
    return hashlib.blake2b(json.dumps(parts, default=repr).encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()


def _folders() -> Iterator[Path]:
    if chosen := os.environ.get(CACHE_VARIABLE):
        yield Path(chosen).expanduser()
        return
    with contextlib.suppress(RuntimeError):  # no home
        home = Path(os.environ.get('XDG_CACHE_HOME') or '~/.cache').expanduser()
        yield home / 'vitdet_plugin' / 'annotations'
    yield Path(tempfile.gettempdir()) / f'vitdet_plugin-{os.geteuid()}'


def _prepare_folder(folder: Path, size: int) -> None:
    """Create a folder.

    Raises:
        OSError: It is not writable, not of this user, or has no space for scratch files and samples.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_own(folder.stat()):
        raise PermissionError(1, 'other users can write there')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(1, 'not writable')
    if shutil.disk_usage(folder).free < 2 * size:
        raise OSError(28, f'less than {2 * size / 2**30:.1f} GB free')


def _read(path: Path, key: str) -> PackedSamples | None:
    packed = read_sample_file(path)
    if packed is None or packed.about.get('key') != key:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # the files that were used last are kept
    return packed


def _write(dataset: Any, path: Path, key: str) -> None:
    was_collecting = gc.isenabled()
    gc.disable()  # nothing here has cycles, and each collection would visit all objects
    try:
        with suppress_output(), CocoPacker(dataset, dataset.ann_file, path.parent) as packer:
            packer.read()
            dataset.data_list = packer.light_entries()
            dataset.data_list = dataset.filter_data()
            if dataset._indices is not None:
                dataset.data_list = dataset._get_unserialized_subset(dataset._indices)
            kept = [each['number'] for each in dataset.data_list]
            dataset.data_list = []
            if not kept:
                raise ValueError('no sample is left')
            write_sample_file(path, packer.samples(kept), *packer.annotation_ids(),
                              dict(key=key, cat_ids=dataset.cat_ids))
    finally:
        dataset.data_list = []
        if was_collecting:
            gc.enable()
    _clean(path)


def _use(dataset: Any, packed: PackedSamples) -> None:
    dataset.cat_ids = packed.about['cat_ids']
    dataset.cat2label = {key: label for label, key in enumerate(dataset.cat_ids)}
    dataset.cat_img_map = images_by_category(packed.categories, packed.images)
    dataset.data_list, dataset.data_bytes, dataset.data_address = [], packed.data, packed.ends
    dataset._fully_initialized = True


def _clean(path: Path) -> None:
    """Remove the files that were not used for longest, and what killed processes left."""
    with contextlib.suppress(OSError):
        files = sorted(path.parent.glob('*.samples'), key=lambda each: each.stat().st_mtime, reverse=True)
        drafts = [each for each in path.parent.glob('*.samples.*.part')
                  if each.stat().st_mtime < time.time() - _ABANDONED]
        for old in [*(each for each in files[_KEPT:] if each != path), *drafts]:
            old.unlink(missing_ok=True)
