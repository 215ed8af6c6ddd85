"""Progress: lines in a pipe, a bar on a terminal that leaves the output of the program alone."""

import sys

from vitdet_plugin.utils import track as module
from vitdet_plugin.utils.track import track


def test_lines_in_a_pipe(monkeypatch, capsys):
    monkeypatch.setattr(module, '_SECONDS_BETWEEN_LINES', 0.0)
    assert list(track('abc', 3, 'images')) == ['a', 'b', 'c']
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(',')[0] for line in lines] == ['images 1/3', 'images 2/3'] and lines[0].endswith(' s to go')
    assert list(track(iter('ab'), None, 'frames')) == ['a', 'b']
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(',')[0] for line in lines] == ['frames 1', 'frames 2'] and lines[1].endswith(' per second')


def test_a_bar_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    monkeypatch.setenv('TERM', 'xterm')
    for total in (2, None):
        for item in track(iter('ab'), total, 'images'):
            print(item)
        shown = capsys.readouterr()
        assert shown.out == 'a\nb\n' and 'images' in shown.err  # the output is not redirected to the terminal
