"""Local files of weights that are given by name, path or URL; published ones are downloaded once."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from torch import nn

from vitdet_plugin.checkpoints.published import PublishedWeights, find_published, is_name
from vitdet_plugin.checkpoints.work_dirs import choose_checkpoint
from vitdet_plugin.compat.file_kinds import describe_wrong_file
from vitdet_plugin.compat.remote_files import fetch_checkpoint, find_download, hub_folder, is_remote, local_path
from vitdet_plugin.config.registry import as_list
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.download import DownloadError, cache_folder, download_file, hash_file, matches_digest
from vitdet_plugin.utils.output_files import write_text

_AGAIN = 'delete it and get it again'
_RECORD = '.sha256'  # what a download was, for files whose publisher gives no checksum


def local_file(name: str | os.PathLike) -> Path:
    """Return the local file of a checkpoint; names and URLs are downloaded once.

    Args:
        name: A path, which takes precedence; a name of ``checkpoints.published``; or a URL, see
            ``compat.remote_files.fetch_checkpoint``. A path need not exist. A work directory stands for its best or
            else newest checkpoint.

    Raises:
        UserError: The download fails.
    """
    entry = find_published(name)
    return choose_checkpoint(fetch_checkpoint(name)) if entry is None else fetch(entry)


def present_file(name: str | os.PathLike) -> Path | None:
    """Return the local file of a checkpoint if it is on this machine; nothing is downloaded.

    Raises:
        UserError: A path with an environment variable that is not set, an unknown ``timm:`` model or scheme.
    """
    entry = find_published(name)
    if entry is not None:
        return find_cached(entry)
    if is_remote(name):
        return find_download(name)
    path = choose_checkpoint(local_path(name))
    return path if path.is_file() else None


def find_cached(entry: PublishedWeights) -> Path | None:
    """Return the file if it is in ``$VITDET_CACHE``, in the folder ``$VITDET_WEIGHTS``, or cached by torch or timm."""
    folders = [cache_folder(), hub_folder()]
    mirror = _mirror()
    if mirror and '://' not in mirror:
        folders.insert(1, Path(mirror).expanduser())
    for folder in folders:
        path = folder / entry.file_name
        if path.is_file() and (entry.size is None or path.stat().st_size == entry.size):
            return path
    return _in_cache_of_huggingface(entry)


def fetch(entry: PublishedWeights) -> Path:
    """Return the local file of published weights; it is downloaded unless it is there.

    Other processes of the machine wait for the first that downloads it.

    Raises:
        UserError: It cannot be downloaded; the line has the URL and where to put the file.
    """
    target = cache_folder() / entry.file_name
    path = find_cached(entry)
    if path is not None:
        return path
    if entry.size is not None and target.is_file() and target.stat().st_size != entry.size:
        raise UserError(f'{entry.name}: {target} has {target.stat().st_size} bytes, expected {entry.size}; delete it, '
                        'so that it is downloaded again')
    if entry.gated:
        raise UserError(f'{entry.name} is published under an agreement and cannot be downloaded here; request '
                        f'{entry.file_name} on {entry.url} and put it at {target}')
    url = download_url(entry)
    try:
        path = download_file(url, target, digest=entry.digest, size=entry.size, check=describe_wrong_file)
        if entry.digest is None and not _record(path).is_file():
            write_text(_record(path), f'{hash_file(path)}  {path.name}\n')
    except DownloadError as error:
        raise UserError(f'{entry.name}: {url} cannot be downloaded: {error}; download it by other means and put it at '
                        f'{target}') from error
    except OSError as error:
        raise UserError(f'{entry.name}: {target} cannot be written ({error.strerror or error}); set VITDET_CACHE to '
                        'another folder') from error
    return path


def verify(entry: PublishedWeights) -> tuple[bool, str]:
    """Check the cached file of published weights; return whether it is correct, and a line about it."""
    path = find_cached(entry)
    if path is None:
        damaged = cache_folder() / entry.file_name
        if damaged.is_file():
            return False, f'{damaged} has {damaged.stat().st_size} bytes, expected {entry.size}; {_AGAIN}'
        return False, f'not downloaded; "vitdet weights get {entry.name}" does'
    if wrong := describe_wrong_file(path):
        return False, f'{path} {wrong}'
    digest, whose = entry.digest, ''
    if digest is None and _record(path).is_file():
        digest, whose = f'sha256:{_record(path).read_text().split()[0]}', ' since its download (none is published)'
    if digest is None:
        return True, f'{path}: no checksum is known; its sha256 is {hash_file(path)}'
    if matches_digest(path, digest):
        return True, f'{path}: {digest.split(":")[0]} is the same{whose}' if whose else \
            f'{path}: {digest.split(":")[0]} is correct'
    return False, f'{path} is damaged or another file: its checksum is not {digest}; {_AGAIN}'


def use_local_files(model: nn.Module) -> None:
    """Replace names of published weights and work directories by local files in ``init_cfg`` of all modules.

    This is for mmengine's own loading.

    Raises:
        UserError: See :func:`local_file`.
    """
    for module in model.modules():
        init = getattr(module, 'init_cfg', None)
        for each in as_list(init):
            file = each.get('checkpoint') if isinstance(each, dict) else None
            if isinstance(each, dict) and isinstance(file, str) and (is_name(file) or os.path.isdir(file)):
                each['checkpoint'] = str(local_file(file))


def _record(path: Path) -> Path:
    return path.with_name(path.name + _RECORD)


def _mirror() -> str:
    """Return the URL or folder of a mirror; empty without one."""
    return os.environ.get('VITDET_WEIGHTS') or os.environ.get('VITDET_MIRROR', '')


def download_url(entry: PublishedWeights) -> str:
    """Return the URL of published weights, that of the mirror if ``VITDET_WEIGHTS`` is one."""
    mirror = _mirror()
    if '://' in mirror:
        return f'{mirror.rstrip("/")}/{urllib.parse.quote(entry.file_name)}'
    return entry.url


def _in_cache_of_huggingface(entry: PublishedWeights) -> Path | None:
    """Return the file in the cache of huggingface_hub, which timm uses, if it is there."""
    repository, _, name = entry.url.removeprefix('https://huggingface.co/').partition('/resolve/main/')
    home = Path(os.environ.get('HF_HOME') or '~/.cache/huggingface').expanduser()
    folder = Path(os.environ.get('HF_HUB_CACHE') or home / 'hub') / f'models--{repository.replace("/", "--")}'
    revision = folder / 'refs' / 'main'
    if not name or not revision.is_file():
        return None
    path = folder / 'snapshots' / revision.read_text().strip() / name
    return path if path.is_file() else None
