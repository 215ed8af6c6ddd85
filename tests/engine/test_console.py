import io
import logging
import subprocess
import sys

import pytest

from tests.end_to_end.tiny_set import ROOT, environment
from vitdet_plugin.engine.console import LiveBar, LogFileStream, quieten


@pytest.fixture
def logger(tmp_path):
    """Return a logger with a console (``logger.console``) and a file (``logger.file``)."""
    logger = logging.Logger('test')
    logger.console, logger.file = io.StringIO(), tmp_path / 'run.log'
    logger.addHandler(logging.StreamHandler(logger.console))
    logger.addHandler(logging.FileHandler(logger.file))
    return logger


def test_startup_messages_and_marked_records_reach_the_file_only(logger):
    quieten(logger)
    quieten(logger)  # a second call has no effect
    logger.info('\n---\nSystem environment:\n  python')
    logger.info('train 1/2', extra={'file_only': True})
    logger.info('Saving checkpoint')
    logger.warning('a warning')
    assert logger.console.getvalue() == 'Saving checkpoint\na warning\n'
    assert all(text in logger.file.read_text() for text in ('System environment', 'train 1/2', 'a warning'))


def test_printed_tables_reach_the_file_only(logger):
    quieten(logger)
    print('Average Precision\n\n = 0.5', file=LogFileStream(logger))
    assert logger.console.getvalue() == '' and logger.file.read_text() == 'Average Precision\n = 0.5\n'


def test_closing_the_bar_restores_the_streams(logger, capsys):
    bar = LiveBar(logger)
    bar.update('train', 1, 4, 'loss 1.0')
    logger.info('above the bar')
    bar.close()
    bar.close()
    logger.info('after it')
    assert logger.console.getvalue() == 'after it\n'
    assert 'above the bar' in capsys.readouterr().out


def test_a_failing_run_restores_the_cursor():
    """The bar hides the cursor on a terminal; the environment makes ``rich`` assume a terminal."""
    program = ("import logging; from vitdet_plugin.engine.console import LiveBar; "
               "LiveBar(logging.Logger('x')).update('train', 1, 4); 1 / 0")
    result = subprocess.run([sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True,
                            env=environment(FORCE_COLOR='1', TERM='xterm'))
    assert 'ZeroDivisionError' in result.stderr
    assert '\x1b[?25l' in result.stdout and result.stdout.rindex('\x1b[?25h') > result.stdout.rindex('\x1b[?25l')
