"""Files of shared samples: damaged, foreign, without space or locks; spawned workers map them again."""

import copy
import errno
import fcntl
import json
import multiprocessing
import os
import pickle
import tempfile

import numpy as np
import pytest

from tests.compat.test_coco_start import build, cache, content, write  # noqa: F401 - a fixture
from vitdet_plugin.coco import sample_file
from vitdet_plugin.coco.sample_file import MappedBytes, PackedSamples, read_sample_file, write_sample_file
from vitdet_plugin.compat import coco_start


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / 'a.samples'
    write_sample_file(path, [b'abc', b'', b'defgh'], np.array([1, 2]), np.array([7, 8]), dict(key='x'))
    return path


def shared_file(cache):  # noqa: F811
    return next(cache.glob('*.samples'))


def test_content_is_read_back(packed):
    found = read_sample_file(packed)
    assert isinstance(found, PackedSamples) and bytes(found.data) == b'abcdefgh'
    assert [values.tolist() for values in found[1:4]] == [[3, 3, 8], [1, 2], [7, 8]] and found.about == dict(key='x')
    assert read_sample_file(packed.with_name('absent')) is None
    assert list(packed.parent.iterdir()) == [packed]


def test_any_changed_byte_is_found(packed):
    whole = packed.read_bytes()
    used = [*range(sample_file._HEADER.size), *range(64, len(whole))]
    for position in used:
        packed.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1:])
        assert read_sample_file(packed) is None, position
    for length in (0, 10, 64, 70, len(whole) - 1):
        packed.write_bytes(whole[:length])
        assert read_sample_file(packed) is None
    packed.write_bytes(whole + b'x')
    assert read_sample_file(packed) is None


def test_files_that_others_can_write_are_not_used(packed):
    packed.chmod(0o666)
    assert read_sample_file(packed) is None


def test_nothing_is_left_of_a_file_that_cannot_be_completed(tmp_path):
    def samples():
        yield b'abc'
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(OSError):
        write_sample_file(tmp_path / 'a', samples(), np.zeros(0), np.zeros(0), {})
    assert not list(tmp_path.iterdir())


def test_copies_and_slices(packed):
    data = read_sample_file(packed).data
    assert copy.deepcopy(data) is data
    assert bytes(pickle.loads(pickle.dumps(data))) == b'abcdefgh'
    part = data[2:4]
    assert part.source is None and bytes(pickle.loads(pickle.dumps(part))) == b'cd'
    assert data.copy().flags.writeable


def _send(dataset, pipe):
    pipe.send((type(dataset.data_bytes).__name__, dataset.data_bytes.source is not None, dataset[3]))


@pytest.mark.parametrize('is_removed', [False, True])
def test_spawned_workers_map_the_file(is_removed, tmp_path, cache, monkeypatch):  # noqa: F811
    dataset = build(write(tmp_path / 'a.json', content()))
    if is_removed:
        shared_file(cache).unlink()
    monkeypatch.setattr(multiprocessing.context, 'get_spawning_popen', lambda: True)
    sent = pickle.dumps(dataset)
    monkeypatch.undo()
    assert (len(sent) > dataset.data_bytes.nbytes) == is_removed
    received = pickle.loads(sent)
    assert isinstance(received.data_bytes, MappedBytes) != is_removed and received[3] == dataset[3]


@pytest.mark.parametrize('change', [lambda whole: whole[:-9], lambda whole: b'', lambda whole: bytes(len(whole)),
                                    lambda whole: whole[:900] + bytes([whole[900] ^ 1]) + whole[901:]])
def test_a_damaged_file_is_written_again(change, tmp_path, cache):  # noqa: F811
    path = write(tmp_path / 'a.json', content())
    expected = [build(path)[index] for index in range(5)]
    shared = shared_file(cache)
    shared.write_bytes(change(whole := shared.read_bytes()))
    assert [build(path)[index] for index in range(5)] == expected
    assert shared.read_bytes() == whole


def test_a_file_of_other_arguments_under_this_name(tmp_path, cache):  # noqa: F811
    first = write(tmp_path / 'a.json', content())
    build(first)
    other = shared_file(cache).rename(tmp_path / 'other')
    second = write(tmp_path / 'b.json', content(seed=1))
    expected = build(second)[0]
    other.replace(shared_file(cache))
    assert build(second)[0] == expected


def test_a_folder_that_cannot_be_used(tmp_path, monkeypatch, capfd):
    path = write(tmp_path / 'a.json', content())
    expected = build(path)[0]
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv(coco_start.CACHE_VARIABLE, str(tmp_path / 'file'))
    assert build(path)[0] == expected
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and str(path) in lines[0] and 'VITDET_ANNOTATION_CACHE' in lines[0]


def test_no_home_and_no_space(tmp_path, monkeypatch, capfd):
    path = write(tmp_path / 'a.json', content())
    expected = build(path)[0]
    monkeypatch.delenv(coco_start.CACHE_VARIABLE)
    (tmp_path / 'home').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    assert build(path)[0] == expected and not capfd.readouterr().err
    assert len(list((tmp_path / f'vitdet_plugin-{os.geteuid()}').iterdir())) == 1  # the temporary folder
    write(path, content())

    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')

    monkeypatch.setattr(coco_start, 'write_sample_file', full)
    assert build(path)[0] == expected
    assert capfd.readouterr().err.count('\n') == 1


def test_file_systems_without_locks(tmp_path, monkeypatch, cache):  # noqa: F811
    def refuse(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', refuse)
    assert len(build(write(tmp_path / 'a.json', content()))) == 40
    assert [each.suffix for each in cache.iterdir()] == ['.samples']


def test_the_files_used_last_are_kept(tmp_path, cache):  # noqa: F811
    path = write(tmp_path / 'a.json', content())
    build(path)
    first = shared_file(cache)
    draft = cache / f'{first.name}.x.part'
    draft.write_text('')
    for number, file in enumerate((first, draft)):
        os.utime(file, (number, number))
    for number in range(1, 9):
        build(path, indices=number)
    assert len(list(cache.iterdir())) == coco_start._KEPT and not first.exists() and not draft.exists()


def test_samples_hold_plain_values_only(tmp_path, cache):  # noqa: F811
    """The pickles name no class or function."""
    dataset = build(write(tmp_path / 'a.json', content()))

    class Plain(pickle.Unpickler):
        def find_class(self, module, name):
            raise AssertionError(f'{module}.{name}')

    import io
    for start, end in zip([0, *dataset.data_address], dataset.data_address):
        Plain(io.BytesIO(bytes(dataset.data_bytes[start:end]))).load()
    assert json.loads(json.dumps(dataset[0])) == dataset[0]
