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
def test_places_that_will_do(folder, path, is_folder):
    before = sorted(folder.rglob('*'))
    check_output_path('--out', folder / path, is_folder)
    assert sorted(folder.rglob('*')) == before


@pytest.mark.parametrize('path, is_folder, says', [
    ('file', True, 'file is a file'), ('file/x', True, 'file is a file'), ('file/x/y', False, 'file is a file'),
    ('', False, 'is a folder; name a file'), ('dangling/x', True, 'dangling is a file')])
def test_places_that_will_not(folder, path, is_folder, says):
    with pytest.raises(UserError, match=f'^--out {folder / path}: .*{says}'):
        check_output_path('--out', folder / path, is_folder)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write anywhere')
def test_a_folder_of_others(folder):
    folder.chmod(0o500)
    with pytest.raises(UserError, match='is not writable'):
        check_output_path('--out', folder / 'new', True)
