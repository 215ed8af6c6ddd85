"""Find and load the libraries of compiled operators that match the sources and the installed PyTorch.

Nothing is compiled here, see :mod:`vitdet_plugin.ops.build`. Libraries are looked for in their package (installed with
it) and then in a cache outside the checkout, which all checkouts with the same sources share. File names carry
:meth:`Library.key`, so a library of other sources, another PyTorch or another Python is never loaded.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

OPS = Path(__file__).resolve().parent
HEADERS = OPS / 'csrc' / 'include'  #: shared by all libraries
OPT_OUT = ('VITDET_OPS_NATIVE', 'OPS_DCNV3_NATIVE')  #: if one is 0, compiled operators are not built or loaded
# no errno and no floating point traps: loops with floor and selection can be vectorized
FLAGS = ('-O3', '-g0', '-fno-math-errno', '-fno-trapping-math')  #: of the C++ compiler
NAMESPACE = 'vitdet_plugin'  #: of ``torch.ops``

#: Libraries by name -> module that defines one as ``LIBRARY``.
MODULES = {'ops': 'vitdet_plugin.ops.native', 'dcnv3': 'ops_dcnv3.native'}


@dataclass(frozen=True)
class Library:
    """The sources of one package's operators and the library files compiled from them, one for each kind.

    Attributes:
        name: short name, part of the file names.
        package: dotted name of the package that holds ``csrc`` and, in an installation, the library files.
        folder: folder of that package.
        kinds: 'cpu', and 'cuda' if there are such sources. The first kind registers what the others need.
    """

    name: str
    package: str
    folder: Path
    kinds: tuple[str, ...] = ('cpu',)

    @property
    def root(self) -> Path:
        """Folder that ``package`` is imported from."""
        return self.folder.parents[self.package.count('.')]

    def sources(self, kind: str) -> list[Path]:
        """Files to compile for a kind: ``csrc/<kind>`` and, for the first kind, those directly in ``csrc``."""
        folders = [self.folder / 'csrc' / kind] + [self.folder / 'csrc'] * (kind == self.kinds[0])
        return sorted(path for folder in folders for path in folder.glob('*') if path.suffix in ('.cpp', '.cu'))

    def include_dirs(self, kind: str) -> list[Path]:
        """Folders of headers: the shared ones, then those of the kind, whose files the shared ones include."""
        return [HEADERS, self.folder / 'csrc' / kind]

    @cache  # noqa: B019  (the two libraries live as long as the process)
    def key(self, kind: str) -> str:
        """Return a short text that depends on the sources, compiler flags, PyTorch, Python and the machine."""
        own = self.folder / 'csrc'
        digest = hashlib.sha256()
        for path in sorted((*own.glob('*'), *own.glob(f'{kind}/*'), *HEADERS.glob('*'))):
            if path.is_file():
                digest.update(f'{path.name}\0'.encode() + path.read_bytes() + b'\0')
        digest.update(' '.join((*FLAGS, torch.__version__, sys.platform, platform.machine())).encode())
        version = torch.__version__.replace('+', '_').replace('.', '_').replace('-', '_')
        return f'torch{version}_{str(sys.implementation.cache_tag).replace("-", "")}_{digest.hexdigest()[:12]}'

    def module_name(self, kind: str) -> str:
        """Name of the library file without suffix."""
        return f'_native_{self.name}_{kind}_{self.key(kind)}'

    def find(self, kind: str) -> Path | None:
        """Return the library file for this Python and PyTorch, from the package or the cache."""
        for folder in (self.folder, cache_folder()):
            found = [path for path in folder.glob(f'{self.module_name(kind)}.*')
                     if path.suffix in ('.so', '.pyd', '.dylib')]
            if found:
                return found[0]
        return None

    def why_not_found(self, kind: str) -> str:
        """Explain what to do when there is no library file of this kind."""
        command = f'python -m {self.package}.build' + (' --cuda' if kind == 'cuda' else '')
        if any(self.folder.glob(f'_native_{self.name}_{kind}_*')):
            return f'the installed library was built for other sources, PyTorch or Python; build it again: {command}'
        return f'not compiled; build it: {command}'

    def load(self) -> dict[str, str | None]:
        """Load the available library files. Never raises.

        Returns:
            kind -> None if it is loaded, else the reason why not.
        """
        status: dict[str, str | None] = {}
        for kind in self.kinds:
            status[kind] = opted_out() or status.get(self.kinds[0]) or self._load_kind(kind)
        return status

    def _load_kind(self, kind: str) -> str | None:
        path = self.find(kind)
        if path is None:
            return self.why_not_found(kind)
        try:
            torch.ops.load_library(path)
        except Exception as error:  # a broken library can raise any exception
            return f'{path} does not load: {" ".join(str(error).split())}'
        return None


def opted_out() -> str | None:
    """Return the reason if the environment turns compiled operators off, else None."""
    for variable in OPT_OUT:
        if os.environ.get(variable, '1').lower() in ('0', 'off', 'no', 'false'):
            return f'{variable}={os.environ[variable]} is set'
    return None


def cache_folder() -> Path:
    """Return the folder of libraries built by ``python -m vitdet_plugin.ops.build``."""
    return Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache').expanduser() / 'vitdet_plugin' / 'ops'
