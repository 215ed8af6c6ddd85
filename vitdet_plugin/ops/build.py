"""Compile the operators into a cache outside the checkout: ``python -m vitdet_plugin.ops.build [--cuda] [--quiet]``."""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitdet_plugin.ops import library
from vitdet_plugin.ops.library import Library

try:
    import fcntl
except ImportError:  # Windows, where no two processes should build at the same time
    fcntl = None  # type: ignore[assignment]

_PROGRAM = 'vitdet_plugin.ops.build'


def load_library(name: str) -> Library:
    """Return a library by its name in ``library.MODULES``."""
    found: Library = importlib.import_module(library.MODULES[name]).LIBRARY
    return found


def extension(which: Library, kind: str) -> Any:
    """Return the setuptools extension of one kind; needs PyTorch.

    OpenMP is passed to the compiler but not to the linker: PyTorch brings its own runtime, and a second one would
    have its own thread settings.
    """
    from torch.utils.cpp_extension import CppExtension, CUDAExtension
    options: dict[str, Any] = dict(
        name=f'{which.package}.{which.module_name(kind)}', optional=True,
        sources=[os.path.relpath(path, which.root) for path in which.sources(kind)])
    headers = [str(path) for path in which.include_dirs(kind)]
    if kind == 'cpu':
        openmp = ['-fopenmp'] if sys.platform == 'linux' else []
        return CppExtension(**options, include_dirs=headers, extra_compile_args=[*library.FLAGS, *openmp])
    return CUDAExtension(**options, include_dirs=headers + cuda_headers(),
                         extra_compile_args={'cxx': list(library.FLAGS), 'nvcc': ['-O3']})


def cuda_headers() -> list[str]:
    """Return the header folders that come with PyTorch's wheels, for toolkits that lack the CUDA libraries' headers."""
    return [str(path) for path in sorted(Path(sysconfig.get_path('purelib')).glob('nvidia/cu*/include'))]


def should_build_cuda() -> bool:
    """Whether PyTorch is built for CUDA and a CUDA compiler is found or FORCE_CUDA=1 is set.

    A GPU is not needed: container images are often built on machines without one.
    """
    import torch
    from torch.utils.cpp_extension import CUDA_HOME
    return torch.version.cuda is not None and (CUDA_HOME is not None or os.environ.get('FORCE_CUDA') == '1')


def setup_options() -> dict[str, Any]:
    """Return arguments of ``setup()`` for an installation with all compiled operators.

    An extension that fails to compile is left out.
    """
    if library.opted_out():
        return {}
    from torch.utils.cpp_extension import BuildExtension

    class OptionalBuild(BuildExtension):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            # ninja would stop at the first extension that fails
            super().__init__(*args, **{**kwargs, 'use_ninja': False})

        def build_extension(self, ext: Any) -> None:
            try:
                super().build_extension(ext)
            except Exception as error:
                print(f'{ext.name} is left out: {error}', file=sys.stderr)

    skipped = () if should_build_cuda() else ('cuda',)
    return dict(ext_modules=[extension(each, kind) for each in map(load_library, library.MODULES)
                             for kind in each.kinds if kind not in skipped],
                cmdclass={'build_ext': OptionalBuild})


def compile_kind(which: Library, kind: str, folder: Path) -> Path:
    """Compile one library file into the cache; several processes may do so at the same time.

    Returns:
        The library file, built now or found there.

    Raises:
        RuntimeError: the compiler failed; the message ends with its last lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f'{which.module_name(kind)}.lock', 'w') as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if found := which.find(kind):
            return found
        with tempfile.TemporaryDirectory(dir=folder, prefix='build-') as work:
            done = subprocess.run([sys.executable, '-m', _PROGRAM, '--compile', which.name, kind, work],
                                  cwd=which.root, capture_output=True, text=True)
            built = list(Path(work, *which.package.split('.')).glob('_native_*'))
            if done.returncode or not built:
                raise RuntimeError(_last_lines(done.stdout + done.stderr))
            target = folder / built[0].name
            os.replace(built[0], target)  # atomic: other processes never find an incomplete file
            return target


def _last_lines(text: str, count: int = 15) -> str:
    lines = text.strip().splitlines()
    errors = [line for line in lines if 'error' in line.lower()]
    return '\n'.join(errors[:3] + lines[-count:])


def _compile(name: str, kind: str, work: str) -> None:
    """Run setuptools, in a separate process, as it and the compilers write to the standard output."""
    from setuptools import setup
    from torch.utils.cpp_extension import BuildExtension
    which = load_library(name)
    built = extension(which, kind)
    built.sources = [str(which.root / source) for source in built.sources]
    os.chdir(work)  # setuptools reads the pyproject.toml of the current folder
    setup(name=f'{name}_native', packages=[], ext_modules=[built], cmdclass={'build_ext': BuildExtension},
          script_args=['build_ext', '--build-lib', work, '--build-temp', f'{work}/objects'])


def build_parser(program: str = _PROGRAM) -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog=f'python -m {program}', description=__doc__.rpartition(':')[0] + '.')
    parser.add_argument('--cuda', action='store_true', help='compile the CUDA kernels too, with or without a GPU')
    parser.add_argument('--quiet', action='store_true', help='print only what was built or failed, and exit with 0')
    parser.add_argument('--compile', nargs=3, metavar=('LIBRARY', 'KIND', 'FOLDER'), help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None, libraries: Sequence[str] = tuple(library.MODULES),
         program: str = _PROGRAM) -> int:
    """Build the given libraries; return 1 if one failed, unless ``--quiet``."""
    args = build_parser(program).parse_args(argv)
    if args.compile:
        _compile(*args.compile)
        return 0
    if reason := library.opted_out():
        if not args.quiet:
            print(f'nothing built: {reason}')
        return 0
    import torch
    with_cuda = args.cuda or (torch.cuda.is_available() and should_build_cuda())
    done = [_build(each, kind, args.quiet) for each in map(load_library, libraries) for kind in each.kinds
            if kind != 'cuda' or with_cuda]
    return int(not all(done) and not args.quiet)


def _build(which: Library, kind: str, quiet: bool) -> bool:
    label = f'{which.name}, {kind}'
    if found := which.find(kind):
        if not quiet:
            print(f'{label}: {found} (already built)')
        return True
    if shutil.which(os.environ.get('CXX', 'c++').split()[0]) is None and shutil.which('g++') is None:
        if not quiet:
            print(f'{label}: no C++ compiler found; the PyTorch backends are used instead')
        return False
    print(f'compiling {label} (about a minute, once) ...', flush=True)
    start = time.monotonic()
    try:
        path = compile_kind(which, kind, library.cache_folder())
    except (RuntimeError, OSError) as error:
        print(f'{label}: not compiled, the PyTorch backends are used instead:\n{error}')
        return False
    print(f'{label}: {path} ({time.monotonic() - start:.0f} s)')
    return True


if __name__ == '__main__':
    sys.exit(main())
