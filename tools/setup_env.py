"""Create the pinned Python environment once, outside the checkout, and print the path of its interpreter.

    python3 tools/setup_env.py [default|upstream]

Every checkout with the same requirement files shares one environment, under
``${XDG_CACHE_HOME:-~/.cache}/vitdet_plugin/envs/``. An environment is complete if it contains a marker file. A lock
prevents concurrent set-ups, and an incomplete environment is created again. The script uses only the standard library
and prints only the path to stdout, so that ``$(make -s which-python)`` works.
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
    """An error with a one-line message for the user."""


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
    """Return the interpreter of the environment, which is created if it does not exist."""
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
        if not usable(home, python):  # not created by another process in the meantime
            make(base, home, row)
    return python


def cache_home() -> Path:
    root = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(root).expanduser().absolute() / 'vitdet_plugin' / 'envs'


def find_python() -> tuple:
    """Return command and version of the base interpreter: $PYTHON, or the first suitable one, tested versions first."""
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
        where = f'PYTHON={named} is older or not Python' if named else 'looked for python3, ' + ', '.join(TESTED)
        raise SetupError(f'Python 3.11 or newer is required ({where}); install it, or select one: make PYTHON=PATH')
    _, command, version = min(found, key=lambda item: item[0])  # the first one of a tested version
    return command, version


def usable(home: Path, python: Path) -> bool:
    if not (home / MARKER).is_file():
        return False
    try:  # its base interpreter may have been removed
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
        raise SetupError(f'{home.parent} has {free / 2**30:.1f} GiB free, but the environment requires '
                         f'{NEEDED_BYTES >> 30} GiB; free some disk space, or set XDG_CACHE_HOME to another disk')
    log = Path(f'{home}.log')
    say(f'setting up the {row} environment in {home} (once; about 6 GB, some minutes; log: {log})')
    shutil.rmtree(home, ignore_errors=True)
    with open(log, 'w') as out:
        run([base, '-m', 'venv', str(home)], out, 'check that the venv module is installed; Debian: apt install '
            'python3-venv;')
        pip = [str(home / 'bin' / 'python'), '-m', 'pip', '--disable-pip-version-check', 'install', '--no-input',
               '--progress-bar=off']
        run([*pip, '-r', str(REQUIREMENTS / f'{row}.txt'), '-r', str(REQUIREMENTS / 'dev.txt'), '-c',
             str(REQUIREMENTS / 'constraints.txt')], out, 'check that the package index can be reached;')
        no_deps = REQUIREMENTS / f'{row}-no-deps.txt'
        if no_deps.is_file():
            run([*pip, '--no-deps', '-r', str(no_deps)], out, 'check that the package index can be reached;')
    (home / MARKER).touch()
    say('environment ready')


def run(command: list, log, hint: str) -> None:
    """Run a command, write its output to the log, and show its last line on a terminal."""
    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME', 'PIP_TARGET', 'PIP_PREFIX')}
    # source packages are also built with pinned versions; pip has used both names for this variable
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
