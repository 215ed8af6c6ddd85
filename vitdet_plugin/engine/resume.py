"""Choose the checkpoint that a run resumes from."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.logging import MessageHub

from vitdet_plugin.checkpoints.sharded import is_sharded
from vitdet_plugin.checkpoints.work_dirs import STEPS, find_damage, list_checkpoints
from vitdet_plugin.compat.atomic_save import save_atomically
from vitdet_plugin.compat.remote_files import STORES, fetch_checkpoint, is_remote, scheme_of
from vitdet_plugin.compat.safe_load import load_checkpoint_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.kept_files import keep_files

_STARTED = '.started'
_MOST_STEPS = 1 << 62


@keep_files()
def apply_resume(cfg: Config, resume: str | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Set ``resume``, ``load_from`` and the seed; ``auto`` takes the newest intact checkpoint of the work directory.

    A worker that torchrun has restarted (``--max-restarts``) resumes by itself from a checkpoint that this job has
    saved. In a distributed run the first rank decides for all.

    Returns:
        The checkpoint's path, or None when training starts from the beginning (``load_from`` is not changed then).

    Raises:
        UserError: The checkpoint does not exist, is damaged, or holds no training state.
    """
    restarts = int(environ.get('TORCHELASTIC_RESTART_COUNT') or 0)
    if resume is None and not restarts:
        _note_start(cfg)
        return None
    shared: list = [None]
    if is_main_process():
        try:
            shared = [_choose(cfg, resume, restarts)]
        except UserError as error:
            shared = [error]
    broadcast_object_list(shared)
    if isinstance(shared[0], UserError):
        raise shared[0]
    if shared[0] is None:
        cfg.resume = False
        return None
    path, seed = shared[0]
    cfg.resume, cfg.load_from = True, path
    if seed is not None:  # the data order depends on it
        cfg.randomness = {**(cfg.get('randomness') or {}), 'seed': seed}
    return path


def newest_intact(work_dir: str, newer_than: float = 0.) -> tuple[str | None, list[str]]:
    """Find the first of :func:`list_checkpoints` that is intact.

    A checkpoint counts only if the checksums of all its data are right. Checking a file loads it, so within
    ``keep_files`` a later load does not read it again.

    Args:
        work_dir: Folder with the checkpoints.
        newer_than: Time of modification, in seconds; older files are ignored.

    Returns:
        The path or None, and one line for each damaged file that was skipped.
    """
    damaged = {}
    for path in list_checkpoints(work_dir):
        if path.stat().st_mtime < newer_than or str(path) in damaged:
            continue
        reason = find_damage(path)
        if reason is None:
            return str(path), list(damaged.values())
        damaged[str(path)] = f'{path} is skipped: {reason}'
    return None, list(damaged.values())


def _choose(cfg: Config, resume: str | None, restarts: int) -> tuple[str, int | None] | None:
    if resume is None:
        print(f'restart {restarts} by torchrun', flush=True)
    if resume in (None, 'auto'):
        started = Path(cfg.work_dir) / _STARTED
        since = started.stat().st_mtime if resume is None and started.is_file() else 0.
        path, damaged = newest_intact(cfg.work_dir, since)
        for line in damaged:
            print(f'warning: {line}', flush=True)
        if path is None and damaged and resume == 'auto':
            raise UserError(f'--resume: no checkpoint in {cfg.work_dir} is intact ({damaged[0]}); move them to another '
                            'folder to start from the beginning')
        if path is None:
            print(f'nothing to resume in {cfg.work_dir}: starting from the beginning', flush=True)
            return None
        print(f'resuming from {path}', flush=True)
    else:
        if scheme_of(resume) in STORES:
            return resume, None
        path = str(fetch_checkpoint(resume))
        if os.path.isdir(path) and not is_sharded(path):
            path = _newest_of(path)
        if os.path.isdir(path):
            return path, None
        if not os.path.exists(path):
            raise UserError(f'--resume: checkpoint {os.path.abspath(path)} does not exist; give another one, '
                        'or --resume without a file')
        reason = find_damage(path)
        if reason:
            raise UserError(f'--resume: {path} cannot be used: {reason}; give another one, or --resume without a '
                            'file for the newest intact one of the work directory')
    seed = None if os.path.isdir(path) else _seed_of(cfg, path)
    return resume if resume is not None and is_remote(resume) else path, seed  # other machines download it as well


def _newest_of(folder: str) -> str:
    """Return the newest intact checkpoint of a work directory that was given to ``--resume``."""
    path, damaged = newest_intact(folder)
    for line in damaged:
        print(f'warning: {line}', flush=True)
    if path is None:
        raise UserError(f'--resume: {folder} holds no intact checkpoint ({" and ".join(STEPS)}); give a file or a '
                        'work directory, or --resume without a path for the work directory of this run')
    print(f'resuming from {path}', flush=True)
    return path


def _seed_of(cfg: Config, path: str) -> int | None:
    """Return the seed of the checkpoint's run; warn if the config has another one."""
    meta = _check_state(path, load_checkpoint_file(path))
    seed, asked = meta.get('seed'), (cfg.get('randomness') or {}).get('seed')
    if None not in (seed, asked) and seed != asked:
        print(f'warning: using the seed of the checkpoint, {seed}, not {asked}', flush=True)
    return seed


def _check_state(path: str, content: Any) -> dict:
    """Return ``meta`` of a checkpoint that holds all that mmengine resumes.

    Raises:
        UserError: Something is missing, which training would start again without a word, or is not valid.
    """
    meta = content.get('meta') if isinstance(content, dict) else None
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= meta.keys() or 'optimizer' not in content:
        raise UserError(f'--resume: {path} holds no training state (epoch, iteration, optimizer); start from its '
                        'weights with --load-from')
    wrong = [f'{key}={meta[key]!r}' for key in ('epoch', 'iter')
             if not isinstance(meta[key], int) or not 0 <= meta[key] < _MOST_STEPS]
    hub = content.get('message_hub')
    is_hub = isinstance(hub, MessageHub) or isinstance(hub, dict) and all(
        isinstance(hub.get(key), dict) for key in ('log_scalars', 'runtime_info', 'resumed_keys'))
    wrong += [] if is_hub else ['message_hub']
    if wrong:
        raise UserError(f'--resume: {path} is damaged ({", ".join(wrong)} is not valid); give another one, or start '
                        'from its weights with --load-from')
    return meta


def _note_start(cfg: Config) -> None:
    """Write a file whose time separates the checkpoints of this job from older ones, for restarts by torchrun."""
    if is_main_process() and 'TORCHELASTIC_RUN_ID' in os.environ:
        save_atomically(Path(cfg.work_dir) / _STARTED, lambda file: file.write(b'started from the beginning\n'))
