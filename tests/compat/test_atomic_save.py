import errno
import io

import pytest
import torch

from vitdet_plugin.compat import atomic_save
from vitdet_plugin.compat.atomic_save import find_damage, remove_unfinished, save_atomically
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils import output_files


def test_mmengine_saves_atomically(tmp_path):
    from mmengine.runner import checkpoint, runner
    assert runner.save_checkpoint is checkpoint.save_checkpoint is atomic_save.save_checkpoint
    checkpoint.save_checkpoint(dict(a=torch.arange(3)), str(tmp_path / 'deep' / 'a.pth'))
    assert torch.load(tmp_path / 'deep' / 'a.pth')['a'].tolist() == [0, 1, 2]
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['a.pth']


class FullDisk(io.FileIO):
    """A file on a disk that takes the first 2000 bytes."""

    def write(self, data):
        if self.tell() + len(data) > 2000:
            raise OSError(errno.ENOSPC, 'No space left on device')
        return super().write(data)


def test_a_full_disk_is_one_line_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    atomic_save.save_checkpoint(dict(a=1), str(path))
    before = path.read_bytes()
    monkeypatch.setattr(output_files, 'open', lambda name, mode: FullDisk(name, mode), raising=False)
    with pytest.raises(UserError, match='a.pth could not be saved: No space left on device') as caught:
        atomic_save.save_checkpoint(dict(a=torch.zeros(10000)), str(path))
    assert '\n' not in str(caught.value)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('name', ['metrics.json', 'predictions.pkl', 'metrics.yaml'])
def test_results_that_mmengine_dumps_are_complete_or_the_old_ones(tmp_path, monkeypatch, name):
    from mmengine.fileio import dump, load
    path = tmp_path / 'deep' / name
    dump(dict(a=1, b='ä'), str(path))
    assert load(str(path)) == dict(a=1, b='ä') and list(path.parent.iterdir()) == [path]
    monkeypatch.setattr(output_files, 'open', lambda name, mode: FullDisk(name, mode), raising=False)
    with pytest.raises(UserError, match=f'{name} could not be saved: No space left on device'):
        dump(dict(a='x' * 10000), str(path))
    assert load(str(path)) == dict(a=1, b='ä') and list(path.parent.iterdir()) == [path]


def test_a_file_that_fails_verification_does_not_replace_the_target(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    path.write_bytes(b'old')

    def damage(stream):
        torch.save(dict(a=torch.ones(100)), stream)
        stream.seek(stream.tell() // 2)
        stream.write(b'damaged')

    with pytest.raises(UserError, match='could not be saved: .* when read back'):
        save_atomically(path, damage, check=True)
    assert path.read_bytes() == b'old' and list(tmp_path.iterdir()) == [path]


def test_missing_write_permission_is_a_one_line_error(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='could not be saved'):
        save_atomically(tmp_path / 'file' / 'a.pth', lambda file: file.write(b'x'))


def test_every_cut_and_every_flipped_byte_of_a_tensor_is_found(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(a=torch.ones(64), b=[1, 2]), path)
    whole = path.read_bytes()
    assert find_damage(path) is None
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        assert find_damage(path), length
    begin = whole.index(torch.ones(64).numpy().tobytes())
    for place in range(begin, begin + 256, 31):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1:])
        assert 'checksum' in find_damage(path)
    assert find_damage(tmp_path / 'none.pth') == 'it does not exist'


def test_the_old_format_is_read_to_the_end(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(a=torch.ones(64)), path, _use_new_zipfile_serialization=False)
    assert find_damage(path) is None
    path.write_bytes(path.read_bytes()[:-9])
    assert find_damage(path)


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    for name in ('.iter_1.pth.77.unfinished', 'iter_1.pth', '.other'):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.other', 'iter_1.pth']
