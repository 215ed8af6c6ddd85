"""SIGTERM and Ctrl-C: the state is saved, also during a validation, and the resumed run equals an uninterrupted one."""

import fcntl
import multiprocessing
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

import pytest

from tests.end_to_end.tiny_set import ROOT, environment
from tests.faults.rig import EPOCHS, STEPS, assert_same_run, steps_of, train_here, write_config
from vitdet_plugin.engine.stopping import resume_command
from vitdet_plugin.errors import Interrupted
from vitdet_plugin.utils.stop_signals import stop_signals

RARELY = EPOCHS.format(2) + 'default_hooks = dict(checkpoint=dict(interval=5))\n'
ACCUMULATE = STEPS.format(4) + 'optim_wrapper = dict(accumulative_counts=2)\n'
ACCUMULATE += 'default_hooks = dict(checkpoint=dict(by_epoch=False, interval=50))\n'


@pytest.fixture(autouse=True)
def ctrl_c_is_not_ignored():
    """As in a terminal; a job in the background of a script ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope='module')
def whole(tiny_set, tmp_path_factory):
    """Work directory of an uninterrupted run of two epochs."""
    folder = tmp_path_factory.mktemp('whole')
    train_here(write_config(folder / 'whole.py', tiny_set, EPOCHS.format(2)), folder / 'whole')
    return folder / 'whole'


def test_ctrl_c_with_data_workers(tiny_set, whole, tmp_path):
    settings = dict(rest=EPOCHS.format(2), workers=2)
    hooks = [dict(type='SignalHook', step=2, number=int(signal.SIGINT))]
    broken = write_config(tmp_path / 'broken.py', tiny_set, hooks=hooks, **settings)
    with pytest.raises(Interrupted) as caught:
        train_here(broken, tmp_path / 'broken')
    assert str(caught.value) == (f'stopped by Ctrl-C after iteration 2; saved {tmp_path}/broken/iter_2.pth. '
                                 'Continue with the same command and --resume')
    assert caught.value.status == 130
    assert not multiprocessing.active_children()
    train_here(broken, tmp_path / 'broken', resume='auto')
    assert_same_run(whole, tmp_path / 'broken')


def stop_in_validation(folder, data, step, batch, number=signal.SIGTERM, **settings):
    """Train until a signal in a validation; returns the config, the work directory and the batches as (step, batch)."""
    hooks = [dict(type='ValidationSignalHook', step=step, batch=batch, number=int(number))]
    config, work_dir = write_config(folder / 'broken.py', data, hooks=hooks, **settings), folder / 'broken'
    train_here(config, work_dir)
    assert max(steps_of(work_dir)) == step - 1
    return config, work_dir, [tuple(map(int, line.split())) for line in (work_dir / 'val_rank0.txt').open()]


@pytest.mark.parametrize(('rest', 'batch', 'saved'), [
    (EPOCHS.format(2), 1, 'epoch_1.pth'),  # saved before the validation
    (RARELY, 1, 'iter_4.pth'),
])
def test_sigterm_in_a_validation_ends_it_after_the_batch(tiny_set, whole, tmp_path, capsys, rest, batch, saved):
    config, work_dir, batches = stop_in_validation(tmp_path, tiny_set, 4, batch, rest=rest)
    assert f'stopped by SIGTERM after iteration 4; saved {work_dir}/{saved}. ' in capsys.readouterr().out
    assert batches == [(4, 0), (4, 1)]
    if saved != 'epoch_1.pth':  # test_exact_resume.py resumes from a regular checkpoint
        train_here(config, work_dir, resume='auto', validate=False)
        assert steps_of(whole) == steps_of(work_dir)


def test_sigusr1_in_a_validation_between_two_optimizer_steps(tiny_set, tmp_path, capsys):
    """The signal comes with the last batch, and the checkpoint contains the gradients of one of two batches."""
    settings = dict(rest=ACCUMULATE, loader="sampler=dict(type='InfiniteSampler')")
    train_here(write_config(tmp_path / 'whole.py', tiny_set, **settings), tmp_path / 'whole', validate=False)
    config, work_dir, batches = stop_in_validation(tmp_path, tiny_set, 3, 6, signal.SIGUSR1, **settings)
    assert 'stopped by SIGUSR1 after iteration 3; saved' in capsys.readouterr().out
    assert batches[-1] == (3, 6)
    train_here(config, work_dir, resume='auto', validate=False)
    assert_same_run(tmp_path / 'whole', work_dir)


@pytest.mark.parametrize(('number', 'name', 'status'), [(signal.SIGINT, 'Ctrl-C', 130),
                                                        (signal.SIGTERM, 'SIGTERM', 143)])
def test_before_the_first_iteration_nothing_is_saved(tiny_set, tmp_path, number, name, status):
    hooks = [dict(type='EarlySignalHook', number=int(number))]
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught:
        train_here(write_config(tmp_path / 'c.py', tiny_set, EPOCHS.format(1), hooks), tmp_path / 'w')
    assert str(caught.value) == f'stopped by {name} before the first iteration; nothing was saved'
    assert caught.value.status == status
    assert not list((tmp_path / 'w').glob('*.pth')) and signal.getsignal(number) == before


def test_a_second_ctrl_c_ends_at_once():
    with stop_signals() as signals:
        signals.is_deferred = True
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt) as caught:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    assert not isinstance(caught.value, Interrupted)


def test_a_second_hangup_is_ignored():
    """The kernel sends one to the job in the foreground, and the shell to all of its jobs."""
    with stop_signals() as signals:
        signals.is_deferred = True
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signals.received == signal.SIGHUP


def test_a_closed_terminal_saves_the_state(tiny_set, tmp_path):
    rest = EPOCHS.format(500) + 'train_cfg = dict(val_interval=500)\n'
    config, work_dir = write_config(tmp_path / 'c.py', tiny_set, rest), tmp_path / 'w'
    terminal, stream = pty.openpty()
    run = subprocess.Popen(
        [sys.executable, '-m', 'vitdet_plugin', 'train', str(config), '--work-dir', str(work_dir), '--skip-preflight'],
        stdin=stream, stdout=stream, stderr=stream, env=environment(), start_new_session=True, cwd=ROOT,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
    os.close(stream)
    try:
        while not (work_dir / 'watch_rank0.jsonl').exists():
            assert select.select([terminal], [], [], 300)[0] and os.read(terminal, 10000)
        os.close(terminal)
        assert run.wait(timeout=300) == 0
    finally:
        run.kill()
    steps = max(steps_of(work_dir))
    assert (work_dir / f'iter_{steps + 1}.pth').is_file()


def test_ignored_ctrl_c_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received is None


def test_ctrl_c_in_a_terminal_prints_one_line(tiny_set, tmp_path):
    """The signal reaches the data workers, too; the line names the whole command."""
    rest = EPOCHS.format(500) + 'train_cfg = dict(val_interval=500)\n'
    config, work_dir = write_config(tmp_path / 'c d.py', tiny_set, rest, workers=2), tmp_path / 'w'
    run = subprocess.Popen(
        [sys.executable, '-m', 'vitdet_plugin', 'train', str(config), '--work-dir', str(work_dir), '--skip-preflight'],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), start_new_session=True, cwd=ROOT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    try:
        while not (work_dir / 'watch_rank0.jsonl').exists() and run.poll() is None:
            time.sleep(0.1)
        os.killpg(run.pid, signal.SIGINT)
        _, errors = run.communicate(timeout=300)
    finally:
        run.kill()
    lines = [line for line in errors.splitlines() if 'Warning' not in line and not line.startswith('  ')]
    assert len(lines) == 1, errors
    assert re.fullmatch(rf"stopped by Ctrl-C after iteration \d+; saved {work_dir}/\w+\.pth\. Continue with python -m "
                        rf"vitdet_plugin train '{config}' --work-dir {work_dir} --skip-preflight --resume", lines[0])
    assert run.returncode == 130


@pytest.mark.parametrize(('argv', 'expected'), [
    (['/x/bin/vitdet', 'train', 'a b.py', '--amp'], "vitdet train 'a b.py' --amp --resume"),
    (['tools/train.py', '--resume', 'c.py'], 'python tools/train.py c.py --resume'),
    (['tools/train.py', 'c.py', '--resume', 'w/iter_3.pth', '--seed', '1'],
     'python tools/train.py c.py --seed 1 --resume'),
    (['vitdet', 'train', '--resume', 'w/iter_3.safetensors', 'c.py'], 'vitdet train c.py --resume'),
    (['vitdet', 'train', 'c.py', '--resume-from=w/iter_3.pth'], 'vitdet train c.py --resume'),
    (['vitdet', 'demo'], 'the same command and --resume'),
    (['pytest', 'train'], 'the same command and --resume'),
])
def test_the_command_to_continue(argv, expected):
    assert resume_command(argv) == expected
