"""The tree is clean by the linter's rules in pyproject.toml."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def test_ruff_finds_nothing():
    pytest.importorskip('ruff', reason='the linter is not installed')
    done = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--no-cache', '--output-format=concise', str(ROOT)],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
