"""Standard streams that are closed or cannot be written, and what is printed of names."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from tests.end_to_end.tiny_set import ROOT
from vitdet_plugin.cli import bench, export, predict, process, report
from vitdet_plugin.prediction.results import Detections

_PROGRAM = """
import argparse, os, sys
from vitdet_plugin.cli.process import open_closed_streams, run
open_closed_streams()
def act(args):
    print('results')
    with open(sys.argv[1], 'w') as file:
        file.write(f'{file.fileno() > 2} {all(os.path.sameopenfile(n, n) for n in range(3))}')
sys.exit(run(argparse.Namespace(), act))
"""


@pytest.mark.parametrize('closed', ['>&-', '>&- 2>&-', '<&- >&- 2>&-', '<&-'])
def test_closed_streams(tmp_path, closed):
    """Files do not get the numbers of closed streams."""
    command = ['sh', '-c', f'"$0" -c "$1" "$2" {closed}', sys.executable, _PROGRAM, str(tmp_path / 'out')]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '') and (tmp_path / 'out').read_text() == 'True True'


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='/dev/full is a device of Linux')
def test_a_full_disk_of_the_output_is_named(tmp_path):
    with open('/dev/full', 'w') as full:
        done = subprocess.run([sys.executable, '-c', _PROGRAM, str(tmp_path / 'out')], cwd=ROOT, stdout=full,
                              stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (
        2, 'error: standard output: No space left on device; VITDET_DEBUG=1 shows where\n')


def test_names_cannot_control_the_terminal(capsys):
    """Class names are those of a checkpoint that others have written."""
    result = Detections('a\x1b]0;x\x07.png', np.zeros((1, 4), np.float32), np.ones(1), np.zeros(1, int), ['x\x1b[2Jü'])
    predict._print_results([result], [0])
    assert capsys.readouterr().out == 'a\\x1b]0;x\\x07.png: 1 object, x\\x1b[2Jü 1.00\n'
    from vitdet_plugin.errors import UserError

    def fail(args):
        raise UserError('class x\x1b[2J\nsecond line')
    assert process.run(SimpleNamespace(), fail) == 2
    assert capsys.readouterr().err == 'error: class x\\x1b[2J\nsecond line\n'


@pytest.mark.parametrize('module, words', [(predict, ['run', 'a.jpg']), (report, ['run']), (export, ['run']),
                                           (bench, ['run'])])
def test_ctrl_c_while_the_arguments_are_completed(module, words, tmp_path, monkeypatch, capsys):
    """Finding a model imports torch, which takes seconds."""
    def interrupted(*args):
        raise KeyboardInterrupt

    (tmp_path / 'run').mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ('stands_alone', 'checkpoint_folder'):
        monkeypatch.setattr(f'vitdet_plugin.prediction.run_folder.{name}', interrupted)
    assert module.main(words) == 130
    assert capsys.readouterr().err == 'stopped\n'
