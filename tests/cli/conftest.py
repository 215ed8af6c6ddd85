"""Fixtures of the commands that work on data sets."""

import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder, with names that need quotes."""
    monkeypatch.setenv('VITDET_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'mein Ordner é').mkdir()
    monkeypatch.chdir(tmp_path / 'mein Ordner é')
    return tmp_path / 'mein Ordner é'
