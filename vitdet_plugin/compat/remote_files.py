"""Local paths of checkpoints that are named by a path, a URL or one of mmengine's model zoos."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import urllib.parse
import urllib.request
from pathlib import Path

import torch

from vitdet_plugin.compat.file_kinds import describe_wrong_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.download import DownloadError, cache_folder, download_file, matches_digest

_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]+):')
_ZOOS = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls')  # mmengine has the URLs of their names
_PUBLISHERS = ('https://download.pytorch.org/', 'https://download.openmmlab.com/')  # their names are unique
_WITH_CHECKSUM = re.compile(r'-([0-9a-f]{8,64})\.')  # as torch.hub expects it
_LONGEST = 150  # bytes
STORES = ('s3', 'petrel', 'pavi')  # read by mmengine's own backends


def scheme_of(name: str | os.PathLike) -> str:
    """Return the scheme of a name such as ``https://…`` in lower case; empty for a local path."""
    match = _SCHEME.match(os.fspath(name))
    return match[1].lower() if match and not os.path.exists(name) else ''


def is_remote(name: str | os.PathLike) -> bool:
    """Whether a checkpoint has to be downloaded, or is not a file at all."""
    return scheme_of(name) not in ('', 'file')


def local_path(name: str | os.PathLike) -> Path:
    """Return the path of a local checkpoint, which may not exist: ``~``, ``$NAME``, ``file://``, ``..`` are resolved.

    Raises:
        UserError: An environment variable is not set.
    """
    text = os.fspath(name)
    if os.path.exists(text):
        return _without_parents(Path(text))
    if scheme_of(text) == 'file':
        text = urllib.request.url2pathname(re.sub(r'^file:(//)?(localhost(?=/))?', '', text, flags=re.IGNORECASE))
    expanded = os.path.expanduser(os.path.expandvars(text))
    if missing := re.search(r'\$(\w+|\{\w+\})', expanded):
        raise UserError(f'{os.fspath(name)}: the environment variable {missing[1].strip("{}")} is not set; set it or '
                        'write the path')
    return _without_parents(Path(expanded))


def _without_parents(path: Path) -> Path:
    return path.parent.resolve() / path.name if '..' in path.parts and path.name != '..' else path


def fetch_checkpoint(name: str | os.PathLike) -> Path:
    """Return the local file of a checkpoint; a URL or a name of a model zoo is downloaded once.

    Downloads are kept in ``$VITDET_CACHE``, see :func:`download`.

    Args:
        name: Path (relative to the current directory), ``file://``, ``http(s)://``, ``torchvision://``,
            ``open-mmlab://`` or ``mmcls://``.

    Raises:
        UserError: An unknown scheme or name, or a failed download.
    """
    return download(_url_of(name)) if is_remote(name) else local_path(name)


def find_download(name: str | os.PathLike) -> Path | None:
    """Return the local file of a URL or of a name of a model zoo if it has been downloaded, else None.

    Raises:
        UserError: An unknown scheme or name.
    """
    return None if scheme_of(name) in STORES else _find(_url_of(name))[1]


def _url_of(name: str | os.PathLike) -> str:
    scheme, text = scheme_of(name), re.sub(r'^([A-Za-z-]+):/+', r'\1://', os.fspath(name))  # pathlib joins slashes
    if scheme in _ZOOS:
        return _zoo_url(scheme, text.split('://', 1)[-1], text)
    if scheme in ('http', 'https'):
        return text
    raise UserError(f'{text}: checkpoints of {scheme}: are not read; download the file and give its path (known: a '
                    'path, file://, http://, https://, torchvision://, open-mmlab://, mmcls://)')


def download(url: str, folder: str | None = None) -> Path:
    """Download a file into ``$VITDET_CACHE`` unless it is there, and return its path.

    The name contains digits of a checksum of the URL, so that files of the same name on different servers are kept
    apart. A file that torch or mmengine has downloaded is used where its name contains the checksum of its content.

    Args:
        url: ``http://`` or ``https://``.
        folder: Another folder for it.

    Raises:
        UserError: The URL is not valid, or the download fails. What has arrived is kept next to the file, as ``.part``,
            and continued later.
    """
    target, found = _find(url, folder)
    if found is not None:
        return found
    try:
        return download_file(url, target, check=describe_wrong_file)
    except (DownloadError, OSError) as error:
        raise UserError(f'{url}: cannot be downloaded ({error}); download it by other means and give its path, or put '
                        f'it at {target}') from error


def _find(url: str, folder: str | None = None) -> tuple[Path, Path | None]:
    """Return the path that a URL is downloaded to, and the file if it is there or where torch or mmengine keep it."""
    try:
        name = os.path.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
    except ValueError as error:
        raise UserError(f'{url} is not a valid URL ({error}); correct it') from error
    if name in ('', '.', '..'):
        raise UserError(f'{url} names no file; give the URL of a checkpoint')
    target = Path(folder or cache_folder()) / _name_of(url, name)
    plain = hub_folder() / name
    found = target if target.is_file() else plain if folder is None and _is_of_url(url, plain) else None
    return target, found


def _name_of(url: str, name: str) -> str:
    """Return a file name that no other URL has; long names, to which suffixes are appended, are cut."""
    stem, suffix = os.path.splitext(name.replace('\0', ''))
    short = stem.encode('utf-8', 'ignore')[:_LONGEST].decode('utf-8', 'ignore')
    return f'{short}-{hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:8]}{suffix[:20]}'


def _is_of_url(url: str, path: Path) -> bool:
    """Whether a file that torch has stored by its name alone is that of a URL: its name has digits of a checksum."""
    digits = _WITH_CHECKSUM.search(path.name)
    return digits is not None and path.is_file() and (
        url.startswith(_PUBLISHERS) or matches_digest(path, f'sha256:{digits[1]}'))


def hub_folder() -> Path:
    """Return the folder in which ``torch.hub`` and mmengine keep downloaded checkpoints."""
    return Path(torch.hub.get_dir()) / 'checkpoints'


def _zoo_url(scheme: str, name: str, text: str) -> str:
    from mmengine.runner import checkpoint
    if scheme in ('torchvision', 'modelzoo'):
        urls = checkpoint.get_torchvision_models()
    elif scheme == 'mmcls':
        urls = checkpoint.get_mmcls_models()
    else:
        urls = checkpoint.get_external_models()
        name = checkpoint.get_deprecated_model_names().get(name, name)
    if name not in urls:
        close = difflib.get_close_matches(name, urls, n=3)
        raise UserError(f'{text}: mmengine has no model of this name'
                        + (f'; close: {", ".join(close)}' if close else '; give a path or a URL'))
    return urls[name]
