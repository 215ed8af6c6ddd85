"""Make the pinned Python environment once, outside the checkout, and print its interpreter.

    python3 tools/setup_env.py [default|upstream]

Every checkout with the same requirement files shares one environment, under
``${XDG_CACHE_HOME:-~/.cache}/vitdet_plugin/envs/``. It counts as made only when its marker file is there; a lock keeps
two set-ups apart, and what an interrupted one left behind is recreated. Only the standard library is used, and the
path goes to stdout alone, so that ``$(make -s which-python)`` works.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / 'requirements'
OLDEST = (3, 11)
TESTED = ('python3.11', 'python3.12', 'python3.13')
NEEDED_BYTES = 8 << 30
MARKER = '.complete'


class SetupError(Exception):
    """One line for the user."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('row', nargs='?', default='default', help='default, or upstream for upstream mmdet')
    return parser


def main() -> int:
    row = build_parser().parse_args().row
    try:
        if not (REQUIREMENTS / f'{row}.txt').is_file():
            raise SetupError('usage: setup_env.py [default|upstream]')
        print(environment(row))
    except SetupError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('error: interrupted; run it again to start over', file=sys.stderr)
        return 130
    return 0


def environment(row: str) -> Path:
    """Interpreter of the environment for this row, which is made if need be."""
    base, version = find_python()
    files = [REQUIREMENTS / name for name in (f'{row}.txt', f'{row}-no-deps.txt', 'common.txt', 'dev.txt',
                                              'docs.txt', 'constraints.txt')]
    files = [file for file in files if file.is_file()]
    lines = [line.split('#')[0].strip() for file in files for line in file.read_text().splitlines()]
    digest = hashlib.sha256('\n'.join([version, platform.machine(), *filter(None, lines)]).encode())
    home = cache_home() / f'{row}-py{version}-{digest.hexdigest()[:12]}'
    python = home / 'bin' / 'python'
    if usable(home, python):
        return python
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(f'{home}.lock', 'w') as lock:
        wait_for(lock)
        if not usable(home, python):  # else another set-up made it while we waited
            make(base, home, row)
    return python


def cache_home() -> Path:
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root).expanduser().absolute() / 'vitdet_plugin' / 'envs'


def find_python() -> tuple:
    """Command and version of the interpreter to build on: $PYTHON, or python3 and its kin, tested versions first."""
    named = os.environ.get('PYTHON')
    found = []
    for command in [named] if named else [sys.executable, 'python3', *TESTED]:
        try:
            code = 'import sys; print("%d.%d.%d" % sys.version_info[:3])'
            version = subprocess.run([command, '-c', code], capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            continue
        numbers = tuple(int(n) for n in version.split('.'))
        if numbers[:2] >= OLDEST:
            found.append((f'python{numbers[0]}.{numbers[1]}' not in TESTED, command, version))
    if not found:
        where = f'PYTHON={named} is not one' if named else 'looked for python3, ' + ', '.join(TESTED)
        raise SetupError(f'Python 3.11 or newer is needed ({where}): install it, or name one: make PYTHON=PATH')
    _, command, version = min(found, key=lambda item: item[0])  # the first one of a tested version
    return command, version


def usable(home: Path, python: Path) -> bool:
    if not (home / MARKER).is_file():
        return False
    try:  # the interpreter below it may have been removed since
        return subprocess.run([str(python), '-c', ''], capture_output=True).returncode == 0
    except OSError:
        return False


def wait_for(lock) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say('another set-up of this environment is running; waiting for it')
        fcntl.flock(lock, fcntl.LOCK_EX)


def make(base: str, home: Path, row: str) -> None:
    free = shutil.disk_usage(home.parent).free
    if free < NEEDED_BYTES:
        raise SetupError(f'{home.parent} has {free / 2**30:.1f} GiB free, the environment needs '
                         f'{NEEDED_BYTES >> 30}: free some disk space, or set XDG_CACHE_HOME to another disk')
    log = Path(f'{home}.log')
    say(f'setting up the {row} environment in {home} (once; about 6 GB, some minutes; log: {log})')
    shutil.rmtree(home, ignore_errors=True)
    with open(log, 'w') as out:
        run([base, '-m', 'venv', str(home)], out, 'is the venv module missing? (Debian: apt install python3-venv)')
        pip = [str(home / 'bin' / 'python'), '-m', 'pip', '--disable-pip-version-check', 'install', '--no-input',
               '--progress-bar=off']
        run([*pip, '-r', str(REQUIREMENTS / f'{row}.txt'), '-r', str(REQUIREMENTS / 'dev.txt'), '-c',
             str(REQUIREMENTS / 'constraints.txt')], out, 'is the package index within reach?')
        no_deps = REQUIREMENTS / f'{row}-no-deps.txt'
        if no_deps.is_file():
            run([*pip, '--no-deps', '-r', str(no_deps)], out, 'is the package index within reach?')
    (home / MARKER).touch()
    say('environment ready')


def run(command: list, log, hint: str) -> None:
    """Run a command with its output in the log and, on a terminal, its latest line in sight."""
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME', 'PIP_TARGET', 'PIP_PREFIX')}
    # builds of source packages obey the pins too, under either name that pip has had for this
    pins = (REQUIREMENTS / 'constraints.txt').as_uri()
    env.update(PIP_USER='0', PYTHONNOUSERSITE='1', PIP_CONSTRAINT=pins, PIP_BUILD_CONSTRAINT=pins)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env,
                               errors='replace')
    last = ''
    for line in process.stdout:
        log.write(line)
        log.flush()
        last = line.strip() or last
        show(last)
    show('')
    if process.wait() != 0:
        raise SetupError(f'{Path(command[0]).name} {" ".join(command[1:4])} … failed: {last} ({hint} log: {log.name})')


def show(line: str) -> None:
    if sys.stderr.isatty():
        print('\r\033[K' + line[:shutil.get_terminal_size().columns - 1], end='', file=sys.stderr, flush=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
    sys.exit(main())
