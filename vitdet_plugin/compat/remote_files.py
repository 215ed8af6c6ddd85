"""Local paths of checkpoints that are named by a path, a URL or one of mmengine's model zoos."""

from __future__ import annotations

import difflib
import os
import re
import urllib.parse
import urllib.request
from pathlib import Path

import torch

from vitdet_plugin.compat.file_kinds import describe_wrong_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.download import DownloadError, download_file

_SCHEME = re.compile(r'([A-Za-z][A-Za-z0-9+.-]+):')
_ZOOS = ('torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls')  # mmengine has the URLs of their names
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

    Downloads are kept where ``torch.hub`` keeps them (``$TORCH_HOME/hub/checkpoints``), as mmengine does.

    Args:
        name: Path (relative to the current directory), ``file://``, ``http(s)://``, ``torchvision://``,
            ``open-mmlab://`` or ``mmcls://``.

    Raises:
        UserError: An unknown scheme or name, or a failed download.
    """
    scheme = scheme_of(name)
    if scheme in ('', 'file'):
        return local_path(name)
    text = os.fspath(name)
    text = re.sub(r'^([A-Za-z-]+):/+', r'\1://', text)  # pathlib joins slashes
    if scheme in _ZOOS:
        return download(_zoo_url(scheme, text.split('://', 1)[-1], text))
    if scheme in ('http', 'https'):
        return download(text)
    raise UserError(f'{text}: checkpoints of {scheme}: are not read; download the file and give its path (known: a '
                    'path, file://, http://, https://, torchvision://, open-mmlab://, mmcls://)')


def download(url: str, folder: str | None = None) -> Path:
    """Download a file into the cache of torch unless it is there, and return its path.

    Raises:
        UserError: The download fails. What has arrived is kept next to the file, as ``.part``, and continued later.
    """
    target = Path(folder or hub_folder()) / os.path.basename(urllib.parse.unquote(urllib.parse.urlparse(url).path))
    if target.is_file():
        return target
    if target.name in ('', '.', '..'):
        raise UserError(f'{url} names no file; give the URL of a checkpoint')
    try:
        return download_file(url, target, check=describe_wrong_file)
    except (DownloadError, OSError) as error:
        raise UserError(f'{url}: cannot be downloaded ({error}); download it by other means and give its path, or put '
                        f'it at {target}') from error


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
