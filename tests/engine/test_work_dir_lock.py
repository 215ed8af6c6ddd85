"""Two trainings in one work directory: the second is refused while the process of the first lives."""

import contextlib
import errno
import os
import signal
import time

import pytest

from tests.faults.rig import STEPS, train_here, write_config
from vitdet_plugin.engine import work_dir_lock as module
from vitdet_plugin.engine.work_dir_lock import locked_work_dir
from vitdet_plugin.errors import UserError


@pytest.fixture
def start():
    """Return a function that starts a process with the lock and a child, as data workers, which outlives it."""
    started = []

    def start(work_dir):
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            with contextlib.suppress(BaseException), locked_work_dir(str(work_dir)):
                worker = os.fork()
                if worker:
                    os.write(writing, str(worker).encode())
                time.sleep(60)
            os._exit(1)
        started.extend([pid, int(os.read(reading, 100))])
        os.close(reading)
        os.close(writing)
        return pid

    yield start
    for pid in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_the_second_training_is_refused_until_the_first_is_killed(tiny_set, tmp_path, start):
    config, work_dir = write_config(tmp_path / 'c.py', tiny_set, STEPS.format(3)), tmp_path / 'work'
    train_here(config, work_dir)
    assert not (work_dir / '.training.lock').exists()
    pid = start(work_dir)
    before = sorted(work_dir.rglob('*'))
    with pytest.raises(UserError, match=f'{work_dir}: another training .process {pid} on .* choose another --work-dir'):
        train_here(config, work_dir, resume='auto')
    assert sorted(work_dir.rglob('*')) == before
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    train_here(write_config(tmp_path / 'c.py', tiny_set, STEPS.format(6)), work_dir, resume='auto')
    assert (work_dir / 'iter_6.pth').is_file()


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.ENOTSUP])
def test_file_systems_without_locks(tmp_path, monkeypatch, number):
    def lockf(*_):
        raise OSError(number, 'no locks')
    monkeypatch.setattr(module.fcntl, 'lockf', lockf)
    with locked_work_dir(str(tmp_path / 'work')):
        pass


def test_systems_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, 'fcntl', None)
    with locked_work_dir(str(tmp_path / 'work')):
        assert not (tmp_path / 'work').exists()
