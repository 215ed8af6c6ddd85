"""Where the compiled operators lie, and how a library is told from one of other sources or another PyTorch.

Nothing is compiled or loaded here. Libraries are looked for beside the package (installed with it) and then in a cache
outside the checkout, which all checkouts with the same sources share. Their names carry :func:`key`, so a library of
other sources, another PyTorch or Python is never loaded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from functools import cache
from pathlib import Path

import torch

PACKAGE = Path(__file__).resolve().parent
SOURCES = PACKAGE / 'csrc'
OPT_OUT = 'OPS_DCNV3_NATIVE'  #: set to 0: compiled operators are neither built nor loaded
KINDS = ('cpu', 'cuda')


def opted_out() -> str | None:
    """Why compiled operators are unwanted; None if they are not."""
    wanted = os.environ.get(OPT_OUT, '1').lower() not in ('0', 'off', 'no', 'false')
    return None if wanted else f'{OPT_OUT}={os.environ[OPT_OUT]} is set'


@cache
def key(kind: str) -> str:
    """Short name of what a library depends on: its sources, PyTorch, Python and machine."""
    digest = hashlib.sha256()
    for path in sorted((*SOURCES.glob('*'), *SOURCES.glob(f'{kind}/*'), PACKAGE / 'build.py')):
        if path.is_file():
            digest.update(f'{path.relative_to(PACKAGE).as_posix()}\0'.encode() + path.read_bytes() + b'\0')
    digest.update(f'{torch.__version__} {sys.platform} {platform.machine()}'.encode())
    version = torch.__version__.replace('+', '_').replace('.', '_').replace('-', '_')
    return f'torch{version}_{sys.implementation.cache_tag.replace("-", "")}_{digest.hexdigest()[:12]}'


def module_name(kind: str) -> str:
    """Name of the library without suffix."""
    return f'_native_{kind}_{key(kind)}'


def cache_folder() -> Path:
    """Folder of libraries built by ``python -m ops_dcnv3.build``."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache').expanduser() / 'vitdet_plugin' / 'ops'


def find(kind: str) -> Path | None:
    """The library for this Python and PyTorch, beside the package or in the cache."""
    for folder in (PACKAGE, cache_folder()):
        found = [path for path in folder.glob(f'{module_name(kind)}.*') if path.suffix in ('.so', '.pyd', '.dylib')]
        if found:
            return found[0]
    return None


def why_not_found(kind: str) -> str:
    """What to tell a user who has no library of this kind."""
    command = 'python -m ops_dcnv3.build' + (' --cuda' if kind == 'cuda' else '')
    if any(PACKAGE.glob(f'_native_{kind}_*')):
        return f'the library beside the package is of other sources, PyTorch or Python; build it again: {command}'
    return f'not compiled; build it: {command}'
