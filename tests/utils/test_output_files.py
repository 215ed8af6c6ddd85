import errno
import io
import os
import stat

import pytest

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils import output_files
from vitdet_plugin.utils.output_files import LongNameError, write_atomically, write_text


class FullDisk(io.FileIO):
    """A file on a disk that takes the first 10 bytes."""

    def write(self, data):
        super().write(data[:10])
        raise OSError(errno.ENOSPC, 'No space left on device')


def test_a_full_disk_keeps_the_old_file_and_the_line_names_it(tmp_path, monkeypatch):
    path = tmp_path / 'report.html'
    write_text(path, 'complete')
    monkeypatch.setattr(output_files, 'open', lambda name, mode: FullDisk(name, mode), raising=False)
    with pytest.raises(UserError, match=r'report\.html could not be saved: No space left on device; an existing file '
                                        'was not changed. Free some space or choose another path'):
        write_text(path, 'of another run')
    assert path.read_text() == 'complete' and list(tmp_path.iterdir()) == [path]


def test_the_longest_names_can_be_written(tmp_path):
    path = tmp_path / ('x' * 251 + '.txt')
    write_text(path, 'a')
    assert path.read_text() == 'a'
    with pytest.raises(LongNameError, match='its name is too long'):
        write_text(tmp_path / ('x' * 252 + '.txt'), 'a')
    assert list(tmp_path.iterdir()) == [path]


def test_links_devices_and_permissions_are_kept(tmp_path):
    target, link = tmp_path / 'target.txt', tmp_path / 'link.txt'
    target.write_text('old')
    link.symlink_to(target)
    write_text(link, 'new')
    assert link.is_symlink() and target.read_text() == 'new'
    assert target.stat().st_mode & 0o777 == 0o666 & ~_umask()
    write_text(os.devnull, 'discarded')
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_names_that_are_not_unicode_become_escapes(tmp_path):
    write_text(tmp_path / 'a.txt', 'm\udce4use ü')
    assert (tmp_path / 'a.txt').read_text(encoding='utf-8') == 'm\\udce4use ü'


def test_an_error_of_the_writer_leaves_no_draft(tmp_path):
    def fail(file):
        file.write(b'half')
        raise ValueError('no figure')

    with pytest.raises(ValueError, match='no figure'):
        write_atomically(tmp_path / 'a.png', fail)
    assert not list(tmp_path.iterdir())


def _umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before
