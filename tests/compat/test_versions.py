import sys

import pytest

from vitdet_plugin.compat import versions
from vitdet_plugin.errors import UserError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Function that writes a package ``mmdet`` with the given source, imported instead of the installed one."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmdet']:
        monkeypatch.delitem(sys.modules, name)

    def write(source):
        (tmp_path / 'mmdet').mkdir()
        (tmp_path / 'mmdet' / '__init__.py').write_text(source)

    return write


def test_a_version_conflict_is_one_line(package):
    package("assert False, 'MMCV==2.2.0 is used but incompatible. Please install mmcv>=2.0.0rc4, <2.2.0.'")
    with pytest.raises(UserError, match=r'mmdet cannot work with .*MMCV==2\.2\.0 .*vitdet-plugin\[openmmlab\]'):
        versions.require('mmdet')


def test_a_missing_dependency_is_named(package):
    package('import imaug_for_tests')
    with pytest.raises(UserError, match='mmdet needs the package imaug_for_tests.*pip install imaug_for_tests'):
        versions.require('mmdet')


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet', None)  # makes the import fail as if it were not installed
    with pytest.raises(UserError, match='mmdet is not installed: pip install onedl-mmdetection'):
        versions.require('mmdet')


def test_output_at_import_is_dropped(package, capsys):
    package("print('Could not import OneDL')")
    versions.require('mmdet')
    assert capsys.readouterr().out == ''
