"""Archives as downloaded: unpacked next to themselves, with checks of their paths."""

import io
import tarfile
import zipfile

import pytest

from tests.datasets.formats.reading import write_image
from tests.datasets.formats.samples import SAMPLES, write_sample
from vitdet_plugin.cli.main import main
from vitdet_plugin.datasets.archives import unpacked
from vitdet_plugin.errors import UserError


@pytest.fixture
def sample(tmp_path):
    return write_sample(tmp_path / 'made', *SAMPLES['roboflow yolo'][1:])


def pack(archive, folder, *more):
    """Write a zip or tar of a folder and of (path, content) in addition."""
    files = [(file.relative_to(folder).as_posix(), file.read_bytes())
             for file in sorted(folder.rglob('*')) if file.is_file()]
    if archive.suffix == '.zip':
        with zipfile.ZipFile(archive, 'w') as to:
            for name, content in (*files, *more):
                to.writestr(name, content)
        return archive
    with tarfile.open(archive, 'w:gz' if archive.suffix in ('.gz', '.tgz') else 'w') as to:
        for name, content in (*files, *more):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            to.addfile(info, io.BytesIO(content))
    return archive


@pytest.mark.parametrize('name', ['cats.v1i.yolov8.zip', 'cats.tar.gz', 'cats.tgz', 'cats.tar'])
def test_init_unpacks_once(tmp_path, monkeypatch, capsys, sample, name):
    monkeypatch.chdir(tmp_path)
    archive = pack(tmp_path / name, sample, ('__MACOSX/._a.jpg', b'x'), ('.DS_Store', b'x'))
    stem = name.removesuffix('.zip').split('.t')[0]
    assert main(['init', name, '--model', 'tiny', '--dry-run']) == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(['made', name])
    assert main(['init', name, '--model', 'tiny']) == 0
    shown = capsys.readouterr().out
    assert f'{name}: unpacked to {tmp_path / stem}' in shown and (tmp_path / 'runs' / stem / 'config.py').is_file()
    assert sorted(each.name for each in (tmp_path / stem).iterdir()) == sorted(each.name for each in sample.iterdir())
    before = archive.read_bytes()
    assert main(['check', name]) == 0 and f'unpacked before to {tmp_path / stem}' in capsys.readouterr().out
    assert main(['convert', 'to-coco', name, '--out', 'coco']) == 0 and archive.read_bytes() == before


def test_another_folder_of_that_name_is_kept(tmp_path, sample):
    archive = pack(tmp_path / 'cats.zip', sample)
    write_image(tmp_path / 'cats/mine.jpg')
    with pytest.raises(UserError, match='cats exists and differs, first in README.dataset.txt'), unpacked(archive):
        pass
    assert [each.name for each in (tmp_path / 'cats').iterdir()] == ['mine.jpg']


@pytest.mark.parametrize('path', ['../out.txt', '/out.txt', 'a/../../out.txt', 'C:\\out.txt', '..\\out.txt'])
@pytest.mark.parametrize('suffix', ['.zip', '.tar'])
def test_paths_outside_are_refused(tmp_path, sample, path, suffix):
    if suffix == '.tar' and '\\' in path:
        pytest.skip('a name of one file on this system')
    archive = pack(tmp_path / f'cats{suffix}', sample, (path, b'x'))
    with pytest.raises(UserError, match='outside of its folder'), unpacked(archive):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(['made', archive.name])


def test_links_in_an_archive_are_left_out(tmp_path, sample):
    archive = pack(tmp_path / 'cats.tar', sample)
    with tarfile.open(archive, 'a') as to:
        info = tarfile.TarInfo('link')
        info.type, info.linkname = tarfile.SYMTYPE, '/etc'
        to.addfile(info)
    with unpacked(archive) as folder:
        assert not (folder / 'link').exists() and (folder / 'data.yaml').is_file()


def test_damaged_archives(tmp_path, sample):
    archive = pack(tmp_path / 'cats.zip', sample)
    whole = archive.read_bytes()
    broken = whole.replace((sample / 'data.yaml').read_bytes(), b'trian' + (sample / 'data.yaml').read_bytes()[5:], 1)
    for name, content in (('part.zip', whole[:len(whole) // 2]), ('page.zip', b'<html>'), ('crc.zip', broken)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f'{name} is not a complete archive .*download it again'), \
                unpacked(tmp_path / name):
            pass
    (tmp_path / 'x.7z').write_bytes(b'7z')
    with pytest.raises(UserError, match='not read; unpack it'), unpacked(tmp_path / 'x.7z'):
        pass
    pack(tmp_path / 'large.zip', sample)
    (tmp_path / 'none').mkdir()
    pack(tmp_path / 'empty.zip', tmp_path / 'none')
    with pytest.raises(UserError, match='empty.zip has 0 files'), unpacked(tmp_path / 'empty.zip'):
        pass
    assert not [each for each in tmp_path.iterdir() if each.is_dir() and each.name not in ('made', 'none')]


def test_a_config_in_an_archive_is_not_executed(tmp_path, capsys, sample):
    archive = pack(tmp_path / 'cats.zip', sample, ('config.py', b'raise SystemExit(7)'))
    for command in ('stats', 'check', 'init'):
        more = ['--dry-run', '--model', 'tiny'] if command == 'init' else []
        assert main([command, str(archive), *more]) in (0, None)
        assert 'yolo' in capsys.readouterr().out


def test_no_space(tmp_path, monkeypatch, sample):
    archive = pack(tmp_path / 'cats.zip', sample)
    monkeypatch.setattr('shutil.disk_usage', lambda path: type('Usage', (), dict(free=1000)))
    with pytest.raises(UserError, match=r'needs 0\.0 GB unpacked, .* has 0\.0 GB'), unpacked(archive):
        pass


def test_names_of_macos_without_the_flag_of_utf8(tmp_path):
    archive = tmp_path / 'cats.zip'
    with zipfile.ZipFile(archive, 'w') as to:
        info = zipfile.ZipInfo('Äpfel.txt'.encode().decode('cp437'))
        to.writestr(info, 'x')
    raw = archive.read_bytes().replace('Äpfel.txt'.encode().decode('cp437').encode(), 'Äpfel.txt'.encode())
    assert raw
    with zipfile.ZipFile(archive) as to:
        from vitdet_plugin.datasets.archives import _name
        info = to.infolist()[0]
        info.flag_bits &= ~0x800
        assert _name(info) == 'Äpfel.txt'
        info.filename = 'caf\u00e9.txt'
        assert _name(info) == 'caf\u00e9.txt'
