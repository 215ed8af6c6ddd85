"""A fingerprint of the training data, to notice that it has changed before a training is resumed."""

from __future__ import annotations

import hashlib
import math
import os
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size

from vitdet_plugin.config.dataset_config import joined_path, leaf_datasets

_WHOLE = 64 * 2**20  # bytes; of larger files that many are read, in blocks over the whole file
_BLOCK = 2**20


def fingerprint(cfg: Config, dataset: Any) -> dict[str, Any]:
    """Return the number of samples of a training set, and a hash of each of its local annotation files.

    Args:
        cfg: Config of the run.
        dataset: The data set that was built from ``cfg.train_dataloader``; ``samples`` is None without a length.

    Returns:
        ``samples``, a number or None; ``files``, path -> hash; ``batch``: batch size, ranks and accumulated steps, None
        if the config has no batch size.
    """
    try:
        samples = len(dataset)
    except TypeError:
        samples = None
    loader = cfg.get('train_dataloader')
    datasets = leaf_datasets(loader.get('dataset'), '') if isinstance(loader, dict) else ()
    paths = [joined_path(each, each.get('ann_file')) for _, each in datasets]
    size = loader.get('batch_size') if isinstance(loader, dict) else None
    accumulated = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    return dict(samples=samples, files={path: _hash(path) for path in paths if path and os.path.isfile(path)},
                batch=size and [size, get_world_size(), accumulated])


def describe_change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return what differs between two fingerprints in words, or an empty string; a file may have moved."""
    known = set(before['files'].values())
    changed = [path for path, value in now['files'].items() if value not in known]
    if changed:
        return ', '.join(changed)
    if before['samples'] != now['samples']:
        return f'{before["samples"]} samples then, {now["samples"]} now'
    return ''


def describe_batch_change(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Return in words how the number of images in an optimizer step of all ranks differs, or an empty string."""
    then, since = before.get('batch'), now['batch']
    if not then or not since or math.prod(then) == math.prod(since):
        return ''
    return ', '.join(f'{math.prod(each)} images in an optimizer step {word} (batch {each[0]}, ranks {each[1]}'
                     f'{f", accumulated {each[2]}" if each[2] > 1 else ""})'
                     for each, word in ((then, 'then'), (since, 'now')))


def _hash(path: str) -> str:
    size = os.path.getsize(path)
    found = hashlib.blake2b(str(size).encode(), digest_size=16)
    with open(path, 'rb') as file:
        if size <= _WHOLE:
            found.update(file.read())
        else:
            count = _WHOLE // _BLOCK
            for index in range(count):
                file.seek((size - _BLOCK) * index // (count - 1))
                found.update(file.read(_BLOCK))
    return found.hexdigest()
