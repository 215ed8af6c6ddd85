"""Paths of checkpoints in logs and messages are absolute where they led through parent folders."""

from pathlib import Path

from vitdet_plugin.compat.remote_files import local_path


def test_parent_folders_are_resolved(tmp_path, monkeypatch):
    (tmp_path / 'a' / 'b').mkdir(parents=True)
    (tmp_path / 'link').symlink_to(tmp_path / 'a' / 'b')
    (tmp_path / 'w.pth').touch()
    (tmp_path / 'a' / 'named.pth').symlink_to(tmp_path / 'w.pth')
    monkeypatch.chdir(tmp_path / 'a' / 'b')
    assert local_path('../../w.pth') == tmp_path / 'w.pth'
    assert local_path('../../missing.pth') == tmp_path / 'missing.pth'
    assert local_path('../../link/../named.pth') == tmp_path / 'a' / 'named.pth'  # the name of a link is kept
    assert local_path('w.pth') == Path('w.pth') and local_path('..') == Path('..')
