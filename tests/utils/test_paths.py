import os

import pytest

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.paths import check_output_path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'file').write_text('x')
    (tmp_path / 'a' / 'dangling').symlink_to(tmp_path / 'gone')
    return tmp_path / 'a'


@pytest.mark.parametrize('path, is_folder', [
    ('', True), ('new', True), ('new/deep', True), ('file', False), ('new', False), ('new/deep', False)])
def test_valid_paths(folder, path, is_folder):
    before = sorted(folder.rglob('*'))
    check_output_path('--out', folder / path, is_folder)
    assert sorted(folder.rglob('*')) == before


@pytest.mark.parametrize('path, is_folder, message', [
    ('file', True, 'file is not a folder'), ('file/x', True, 'file is not a folder'),
    ('file/x/y', False, 'file is not a folder'),
    ('', False, 'is a folder; give the path of a file'), ('dangling/x', True, 'dangling is not a folder')])
def test_invalid_paths(folder, path, is_folder, message):
    with pytest.raises(UserError, match=f'^--out {folder / path}: .*{message}'):
        check_output_path('--out', folder / path, is_folder)


@pytest.mark.skipif(os.geteuid() == 0, reason='root can write to every folder')
def test_a_folder_without_write_permission(folder):
    folder.chmod(0o500)
    with pytest.raises(UserError, match='is not writable'):
        check_output_path('--out', folder / 'new', True)
