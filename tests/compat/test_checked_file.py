"""Checksums are verified while torch reads an archive; kept content is handed out as copies."""

import pickle
import zipfile

import pytest
import torch
from torch import nn

from vitdet_plugin.compat.atomic_save import find_damage
from vitdet_plugin.compat.checked_file import CheckedFile
from vitdet_plugin.compat.safe_load import DamagedFileError, load_checkpoint_file, load_torch_file
from vitdet_plugin.utils.kept_files import keep_files


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(dict(a=torch.arange(64.), b=[1, dict(c=torch.ones(3))]), path)
    return path


def test_torch_reads_each_tensor_at_once_so_that_only_small_records_remain(path):
    with CheckedFile(path) as file:
        assert torch.load(file)['a'].equal(torch.arange(64.))
        remaining = {record.filename.split('/', 1)[1] for record in file._unread.values()}
        assert not any(name.startswith('data') for name in remaining)
        assert file.find_damage() is None


def test_every_cut_and_changed_byte_is_found(path):
    """The same files as by ``find_damage``, which reads the archive apart from loading it."""
    whole = path.read_bytes()
    assert load_checkpoint_file(path, check=True)['a'].equal(torch.arange(64.))
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError, match=r'a\.pth cannot be used'):
            load_checkpoint_file(path, check=True)
    for position in range(0, len(whole), 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1:])
        if find_damage(path):
            with pytest.raises(DamagedFileError):
                load_checkpoint_file(path, check=True)


def test_the_error_survives_a_broadcast(tmp_path):
    with pytest.raises(DamagedFileError) as caught:
        load_checkpoint_file(tmp_path / 'none.pth', check=True)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert str(copied) == str(caught.value) and copied.reason == 'it does not exist'


def test_compressed_archives_are_not_mapped(path, tmp_path):
    packed = tmp_path / 'packed.pth'
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    for load in (lambda: load_torch_file(packed, mmap=True), lambda: load_checkpoint_file(packed, check=True)):
        assert load()['a'].equal(torch.arange(64.))


def test_mapped_tensors_can_be_changed_without_changing_the_file(path):
    before = path.read_bytes()
    content = load_checkpoint_file(path, mmap=True)
    content['a'].zero_()
    assert path.read_bytes() == before


def test_kept_containers_are_copies(path, tmp_path):
    with keep_files():
        load_checkpoint_file(path)['b'][1].clear()
        assert load_checkpoint_file(path)['b'][1]['c'].tolist() == [1, 1, 1]
        assert load_checkpoint_file(path, 'meta')['a'].is_meta
        norm = nn.BatchNorm2d(2)
        torch.save(norm.state_dict(), tmp_path / 'norm.pth')
        state = load_checkpoint_file(tmp_path / 'norm.pth')
        assert state._metadata == norm.state_dict()._metadata and type(state) is type(norm.state_dict())
