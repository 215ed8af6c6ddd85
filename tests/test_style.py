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


@pytest.mark.parametrize(('path', 'source', 'code'), [
    ('vitdet_plugin/backbones/a.py', 'def f(x):\n    return x\n', '[no-untyped-def]'),
    ('vitdet_plugin/heads/a.py', 'def f(x: int | None) -> int:\n    return x + 1\n', '[operator]'),
    ('vitdet_plugin/utils/a.py', 'def f(x: int) -> int:\n    return x\n\n\nf(1, 2)\n', '[call-arg]'),
])
def test_mypy_finds_mistakes(tmp_path, path, source, code):
    """The strict part is checked in full, the rest for wrong calls."""
    pytest.importorskip('mypy', reason='mypy is not installed')
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / 'ops_dcnv3').mkdir()
    for package in ('ops_dcnv3', 'vitdet_plugin', str(Path(path).parent)):
        (tmp_path / package / '__init__.py').touch()
    (tmp_path / path).write_text(source)
    done = subprocess.run([sys.executable, '-m', 'mypy', '--config-file', str(ROOT / 'pyproject.toml'),
                           '--cache-dir', str(tmp_path / 'cache')], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert code in done.stdout
