"""Command lines: of the running program, and those that start another one."""

import os
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any


def running_command() -> str:
    """Return the command line, with quotes where a shell needs them; the program is named without its folder."""
    program = Path(sys.argv[0]).name if sys.argv else 'python'
    return shlex.join(['vitdet' if program == '__main__.py' else program, *sys.argv[1:]])


def package_environment() -> dict[str, str]:
    """Return the environment in which a new process finds this package; a checkout need not be on PYTHONPATH."""
    package = Path(str(resources.files('vitdet_plugin'))).parent
    paths = filter(None, (str(package), os.environ.get('PYTHONPATH')))
    return {**os.environ, 'PYTHONPATH': os.pathsep.join(paths)}


def run_vitdet(*words: object, ranks: int = 1, **options: Any) -> subprocess.CompletedProcess:
    """Run a subcommand of ``vitdet`` in a new process for each of ``ranks``; ``options`` are those of ``run``."""
    launcher = ['-m', 'torch.distributed.run', '--standalone', f'--nproc-per-node={ranks}'] if ranks > 1 else []
    return subprocess.run([sys.executable, *launcher, '-m', 'vitdet_plugin', *map(str, words)],
                          env=package_environment(), **options)
