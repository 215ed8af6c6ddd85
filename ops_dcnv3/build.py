"""Compiles the operators into a cache outside the checkout: python -m ops_dcnv3.build [--cuda] [--quiet]."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from ops_dcnv3 import library

try:
    import fcntl
except ImportError:  # Windows, where no two processes should build at once
    fcntl = None

# no errno, no floating point traps: lets loops with floor and selection become vector code
_FLAGS = ['-O3', '-g0', '-fno-math-errno', '-fno-trapping-math']


def extension(kind: str):
    """The setuptools extension of one kind; needs PyTorch.

    OpenMP is asked of the compiler, but not of the linker: PyTorch brings its own runtime, and a second one would
    have other thread settings.
    """
    from torch.utils.cpp_extension import CppExtension, CUDAExtension
    sources = [*library.SOURCES.glob('*.cpp'), *library.SOURCES.glob('cpu/*.cpp')] if kind == 'cpu' else \
        [*library.SOURCES.glob('cuda/*.cu'), *library.SOURCES.glob('cuda/*.cpp')]
    options = dict(name=f'ops_dcnv3.{library.module_name(kind)}', optional=True,
                   sources=sorted(os.path.relpath(path, library.PACKAGE.parent) for path in sources))
    if kind == 'cpu':
        openmp = ['-fopenmp'] if sys.platform == 'linux' else []
        return CppExtension(**options, extra_compile_args=_FLAGS + openmp)
    return CUDAExtension(**options, include_dirs=cuda_headers(), extra_compile_args={'cxx': _FLAGS, 'nvcc': ['-O3']})


def cuda_headers() -> list[str]:
    """Headers of CUDA libraries that came with PyTorch's wheels, for toolkits installed without them."""
    return [str(path) for path in sorted(Path(sysconfig.get_path('purelib')).glob('nvidia/cu*/include'))]


def cuda_wanted() -> bool:
    """Whether a CUDA compiler is here, or FORCE_CUDA=1 asks for it, and PyTorch is built for CUDA.

    Whether a GPU is here does not matter: images are often built where there is none.
    """
    import torch
    from torch.utils.cpp_extension import CUDA_HOME
    return torch.version.cuda is not None and (CUDA_HOME is not None or os.environ.get('FORCE_CUDA') == '1')


def setup_options() -> dict:
    """Arguments of ``setup()`` for an installation with compiled operators; a failing compiler leaves them out."""
    if library.opted_out():
        return {}
    from torch.utils.cpp_extension import BuildExtension

    class OptionalBuild(BuildExtension):
        def build_extension(self, ext) -> None:
            try:
                super().build_extension(ext)
            except Exception as error:
                print(f'{ext.name} is left out: {error}', file=sys.stderr)

    kinds = ['cpu'] + ['cuda'] * cuda_wanted()
    # one at a time, each with its own compilers; ninja would stop at the first that fails
    return dict(ext_modules=[extension(kind) for kind in kinds],
                cmdclass={'build_ext': OptionalBuild.with_options(use_ninja=False)})


def compile_kind(kind: str, folder: Path) -> Path:
    """Compile one library into the cache; safe when several processes do so at once.

    Returns:
        The library, built now or found there.

    Raises:
        RuntimeError: the compiler failed; the message ends with its last lines.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f'{library.module_name(kind)}.lock', 'w') as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if found := library.find(kind):
            return found
        with tempfile.TemporaryDirectory(dir=folder, prefix='build-') as work:
            done = subprocess.run([sys.executable, '-m', 'ops_dcnv3.build', '--compile', kind, work],
                                  cwd=library.PACKAGE.parent, capture_output=True, text=True)
            built = list(Path(work).glob('ops_dcnv3/_native_*'))
            if done.returncode or not built:
                raise RuntimeError(_last_lines(done.stdout + done.stderr))
            target = folder / built[0].name
            os.replace(built[0], target)  # appears at once and whole
            return target


def _last_lines(text: str, count: int = 15) -> str:
    lines = text.strip().splitlines()
    wrong = [line for line in lines if 'error' in line.lower()]
    return '\n'.join(wrong[:3] + lines[-count:])


def _compile(kind: str, work: str) -> None:
    """In a process of its own, as setuptools and compilers print freely."""
    from setuptools import setup
    from torch.utils.cpp_extension import BuildExtension
    ninja = shutil.which('ninja') is not None
    setup(name='ops_dcnv3_native', packages=[], ext_modules=[extension(kind)],
          cmdclass={'build_ext': BuildExtension.with_options(use_ninja=ninja)},
          script_args=['build_ext', '--build-lib', work, '--build-temp', f'{work}/objects'])


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='python -m ops_dcnv3.build', description=__doc__)
    parser.add_argument('--cuda', action='store_true', help='the CUDA kernels too, whether or not a GPU is here')
    parser.add_argument('--quiet', action='store_true', help='say nothing but what was built or failed, and never fail')
    parser.add_argument('--compile', nargs=2, metavar=('KIND', 'FOLDER'), help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.compile:
        _compile(*args.compile)
        return 0
    if reason := library.opted_out():
        print(f'nothing built: {reason}' if not args.quiet else '', end='' if args.quiet else '\n')
        return 0
    import torch
    kinds = ['cpu'] + ['cuda'] * (args.cuda or (torch.cuda.is_available() and cuda_wanted()))
    failed = False
    for kind in kinds:
        failed |= not _build(kind, args.quiet)
    return int(failed and not args.quiet)


def _build(kind: str, quiet: bool) -> bool:
    if found := library.find(kind):
        if not quiet:
            print(f'{kind}: {found} (was there)')
        return True
    if shutil.which(os.environ.get('CXX', 'c++').split()[0]) is None and shutil.which('g++') is None:
        if not quiet:
            print(f'{kind}: no C++ compiler found; the PyTorch backend serves instead')
        return False
    print(f'compiling the operators for {kind} (about a minute, once) ...', flush=True)
    start = time.monotonic()
    try:
        path = compile_kind(kind, library.cache_folder())
    except (RuntimeError, OSError) as error:
        print(f'{kind}: not compiled, the PyTorch backend serves instead:\n{error}')
        return False
    print(f'{kind}: {path} ({time.monotonic() - start:.0f} s)')
    return True


if __name__ == '__main__':
    sys.exit(main())
