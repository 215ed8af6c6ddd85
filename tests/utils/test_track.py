"""Progress: lines in a pipe, a bar on a terminal that leaves the output of the program alone."""

import os
import pty
import re
import subprocess
import sys
import time

import pytest

from vitdet_plugin.utils import track as module
from vitdet_plugin.utils.track import Progress, track

SHORT = ('import sys, time, vitdet_plugin.utils.track as t\n'
         't._SECONDS_BETWEEN_LINES = t._SECONDS_BEFORE_BAR = 0.0\n')


def run(program: str, on_terminal: bool, *words: str) -> tuple[int, str, str]:
    """Run a program that shows progress without delay; return its status, output, and what it shows on stderr."""
    environment = {**os.environ, 'TERM': 'xterm', 'COLUMNS': '120'}
    command = [sys.executable, '-c', SHORT + program, *words]
    if not on_terminal:
        found = subprocess.run(command, env=environment, capture_output=True, text=True)
        return found.returncode, found.stdout, found.stderr
    primary, secondary = pty.openpty()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=secondary, text=True) as process:
        os.close(secondary)
        shown = b''
        with os.fdopen(primary, 'rb', buffering=0) as terminal:
            try:
                while part := terminal.read(4096):
                    shown += part
            except OSError:  # how Linux reports that the other side was closed
                pass
        out = process.stdout.read() if process.stdout else ''
    return process.returncode, out, shown.decode()


def test_lines_in_a_pipe(monkeypatch, capsys):
    monkeypatch.setattr(module, '_SECONDS_BETWEEN_LINES', 0.0)
    assert list(track('abc', 3, 'images')) == ['a', 'b', 'c']
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(',')[0] for line in lines] == ['images 1/3', 'images 2/3'] and lines[0].endswith(' s to go')
    assert list(track(iter('ab'), None, 'frames')) == ['a', 'b']
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(',')[0] for line in lines] == ['frames 1', 'frames 2'] and lines[1].endswith(' per second')


def test_bytes_count_from_where_a_download_continues(monkeypatch, capsys):
    monkeypatch.setattr(module, '_SECONDS_BETWEEN_LINES', 0.0)
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    progress = Progress('w.pth', 10_000_000, in_bytes=True)
    progress.update(4_000_000)
    now[0] += 10
    progress.update(5_000_000)
    progress.close()
    assert capsys.readouterr().err.splitlines()[1] == 'w.pth 5.0 MB of 10.0 MB, 100.0 kB/s, 50 s to go'


def test_short_steps_and_steps_within_others_show_nothing(monkeypatch, capsys):
    assert list(track('ab', 2, 'images')) == ['a', 'b'] and not capsys.readouterr().err
    monkeypatch.setattr(module, '_SECONDS_BETWEEN_LINES', 0.0)
    for _ in track('ab', 2, 'outer'):
        list(track('abc', 3, 'inner'))
    assert [line.split()[0] for line in capsys.readouterr().err.splitlines()] == ['outer']
    with pytest.raises(ZeroDivisionError):
        for _ in track('ab', 2, 'fails'):
            1 / 0  # noqa: B018
    assert list(track('ab', 2, 'images')) and 'images 1/2' in capsys.readouterr().err  # the one that failed has ended


def test_other_ranks_are_silent(monkeypatch, capsys):
    monkeypatch.setattr(module, '_SECONDS_BETWEEN_LINES', 0.0)
    monkeypatch.setenv('RANK', '1')
    assert list(track('ab', 2, 'images')) == ['a', 'b'] and not capsys.readouterr().err


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    monkeypatch.setattr(module, '_SECONDS_BEFORE_BAR', 0.0)
    monkeypatch.setenv('TERM', 'xterm')
    for total in (2, None):
        for item in track(iter('ab'), total, 'images'):
            print(item)
        shown = capsys.readouterr()
        assert shown.out == 'a\nb\n' and 'images' in shown.err  # the output is not redirected to the terminal
    monkeypatch.setenv('TERM', 'dumb')
    list(track('ab', 2, 'images'))
    assert '\x1b' not in capsys.readouterr().err


@pytest.mark.parametrize('on_terminal', [True, False])
def test_a_step_without_parts(on_terminal):
    program = ('with t.working("writing"):\n'
               '    time.sleep(0.3); print("result", flush=True); print("warning: x", file=sys.stderr)')
    if not on_terminal:
        program = program.replace('with', 't._SECONDS_BETWEEN_LINES = 0.05\nwith')
    code, out, shown = run(program, on_terminal)
    assert code == 0 and out == 'result\n' and 'warning: x' in shown
    assert re.search(r'writing.*0:00:00' if on_terminal else r'^writing: 0 s$', shown, re.MULTILINE)
    assert ('\x1b' in shown) == on_terminal


def test_a_counted_step_within_one_without_parts_is_shown():
    program = ('with t.working("loading"):\n'
               '    for _ in t.track("abc", 3, "bytes of weights"): time.sleep(0.1)\n'
               '    time.sleep(0.2)')
    code, _, shown = run(program, True)
    assert code == 0 and re.search(r'loading.*bytes of weights.*\d/3.*loading', shown, re.DOTALL)


@pytest.mark.parametrize('on_terminal', [True, False])
def test_the_remaining_time_of_a_command(tmp_path, on_terminal):
    """A command as typed: `vitdet convert` reads XML files."""
    from tests.datasets.annotation_files import voc, xml
    root = voc(tmp_path, **{f'n{i}': xml(('cat', 10, 20, 30, 60)) for i in range(6)})
    program = 'from vitdet_plugin.cli.main import main\nsys.exit(main(sys.argv[1:]))'
    code, out, shown = run(program, on_terminal, 'convert', 'voc-to-coco', str(root))
    assert code == 0 and 'all: 6 images' in out and 'XML files' in shown
    if on_terminal:
        assert re.search(r'XML files.*━.*\d/6.*\d:\d\d:\d\d', shown)
    else:
        assert shown.splitlines()[-1].startswith('XML files 5/6, ') and '\x1b' not in shown
