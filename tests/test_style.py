"""The tree passes ruff and mypy with the settings in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, '-m', *command], cwd=ROOT, capture_output=True, text=True)


def test_ruff_finds_nothing():
    pytest.importorskip('ruff', reason='ruff is not installed')
    done = run('ruff', 'check', '--no-cache', '--output-format=concise', '.')
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_nothing(tmp_path):
    pytest.importorskip('mypy', reason='mypy is not installed')
    done = run('mypy', f'--cache-dir={tmp_path}')
    assert done.returncode == 0, done.stdout + done.stderr


MISTAKES = {
    'vitdet_plugin/backbones/a.py': ('def f(x):\n    return x\n', '[no-untyped-def]'),
    'vitdet_plugin/heads/a.py': ('def f(x: int | None) -> int:\n    return x + 1\n', '[operator]'),
    'vitdet_plugin/utils/a.py': ('def f(x: int) -> int:\n    return x\n\n\nf(1, 2)\n', '[call-arg]'),
}


@pytest.fixture(scope='module')
def mistakes(tmp_path_factory):
    """What mypy prints about files with one mistake each, by file."""
    pytest.importorskip('mypy', reason='mypy is not installed')
    folder = tmp_path_factory.mktemp('mistakes')
    (folder / 'ops_dcnv3').mkdir()
    for path, (source, _) in MISTAKES.items():
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text(source)
        (folder / path).with_name('__init__.py').touch()
    for package in ('ops_dcnv3', 'vitdet_plugin'):
        (folder / package / '__init__.py').touch()
    done = subprocess.run([sys.executable, '-m', 'mypy', '--config-file', str(ROOT / 'pyproject.toml'),
                           '--cache-dir', str(folder / 'cache')], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    return {path: [line for line in done.stdout.splitlines() if line.startswith(path)] for path in MISTAKES}


@pytest.mark.parametrize('path', MISTAKES)
def test_mypy_finds_mistakes(path, mistakes):
    """The strict part is checked in full, the rest for wrong calls."""
    errors = [line for line in mistakes[path] if ': error: ' in line]
    assert len(errors) == 1 and errors[0].endswith(MISTAKES[path][1])
