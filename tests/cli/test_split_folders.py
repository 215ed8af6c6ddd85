"""``vitdet split`` on folders that are not folders of classes, and files that it leaves out."""

import shutil

import pytest

from tests.datasets.formats.samples import SAMPLES, write_sample
from tests.datasets.image_writer import write_rotated
from tests.datasets.tiny_classes import write_class_folders
from vitdet_plugin.cli import check, split, stats


@pytest.mark.parametrize(('make', 'message'), [
    (lambda root: [write_class_folders(root / name, 1) for name in ('train', 'Val')],
     'is split already: it holds train, Val; give one of these folders'),
    (lambda root: (root / 'train').mkdir(), 'has 1 folders without images; expected <class name>/<image>'),
    (lambda root: write_sample(root, *SAMPLES['voc'][1:]), 'is a data set with objects (voc: '),
    (lambda root: write_sample(root, *SAMPLES['yolo'][1:]), 'is a data set with objects (yolo: '),
    (lambda root: write_rotated(root / 'a.jpg'), 'has no folders and 1 images directly in it; expected')])
def test_other_folders_are_one_line(tmp_path, capsys, make, message):
    (tmp_path / 'set').mkdir()
    make(tmp_path / 'set')
    assert split.main([str(tmp_path / 'set'), '--out', str(tmp_path / 'out')]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and '--ann' not in line and not (tmp_path / 'out').exists()


def test_files_that_are_left_out_are_counted(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'set', 10)
    (root / 'Maize/notes.txt').touch()
    (root / 'Maize/.DS_Store').touch()
    (root / 'Maize/Thumbs.db').touch()
    shutil.copy(root / 'Maize/00.png', root / 'loose.png')
    assert split.main([str(root), '--out', str(tmp_path / 'out')]) == 0
    assert capsys.readouterr().err.splitlines() == [
        'warning: 1 files that are not images by their suffix are left out: Maize/notes.txt',
        'warning: 1 images outside of the class folders are left out: loose.png']
    assert check.main([str(root)]) == 0
    out = capsys.readouterr().out
    assert f'1 x images outside of the class folders, which are not used: {root}/loose.png' in out
    assert f'read: {root}: 3 folders of classes, 30 images' in out
    stats.main([str(root)])
    assert 'images outside of the class folders, not used: 1: loose.png' in capsys.readouterr().out


def test_check_reads_every_split(tmp_path, capsys):
    for name in ('train', 'val'):
        write_class_folders(tmp_path / name, 1)
    assert check.main([str(tmp_path)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith('read')] == [
        f'read: {tmp_path}/{name}: 3 folders of classes, 3 images' for name in ('train', 'val')]


def test_statistics_count_sizes_as_displayed(tmp_path, capsys):
    write_rotated(tmp_path / 'a/1.jpg')
    stats.main([str(tmp_path)])
    assert 'width 8 to 8 (median 8), height 12 to 12' in capsys.readouterr().out


def test_tables_of_spreadsheets(tmp_path):
    from vitdet_plugin.datasets.split import groups_from_csv
    for text, codec in (('file,group\r\na.png,x\r\n', 'utf-8-sig'), ('file;group\na.png;x\n', 'utf-16')):
        (tmp_path / 'groups.csv').write_bytes(text.encode(codec))
        assert groups_from_csv(['a.png'], tmp_path / 'groups.csv') == ['x']


@pytest.mark.parametrize('names', [('trn', 'dev'), ('Train', 'Validation'), ('train2017', 'val2017')])
def test_folders_are_read_as_init_reads_them(tmp_path, capsys, names):
    """A folder that holds everything, as in archives, is entered; splits may have other names."""
    for name in names:
        write_class_folders(tmp_path / 'outer' / 'all images' / name, 5)
    assert stats.main([str(tmp_path / 'outer'), '--out', str(tmp_path / 'stats')]) == 0
    assert capsys.readouterr().out.split('\n')[0].split() == ['images', *names]
    assert check.main([str(tmp_path / 'outer')]) == 0
    assert [line.split(': ')[1] for line in capsys.readouterr().out.splitlines() if line.startswith('read: ')] == [
        str(tmp_path / 'outer' / 'all images' / name) for name in names]
    assert split.main([str(tmp_path / 'outer'), '--out', str(tmp_path / 'out')]) == 2
    assert 'is split already' in capsys.readouterr().err
