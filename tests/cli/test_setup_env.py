"""The environment set-up, with a bare environment instead of installed packages."""

import importlib.util
import subprocess
import sys
import threading
import time
import venv
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / 'tools' / 'setup_env.py'


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """The script as a module, with its requirements and its cache in folders of this test; ``made`` lists venvs."""
    spec = importlib.util.spec_from_file_location('setup_env', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.REQUIREMENTS = tmp_path / 'my clone' / 'requirements'
    module.REQUIREMENTS.mkdir(parents=True)
    for name in ('default', 'dev', 'constraints'):
        (module.REQUIREMENTS / f'{name}.txt').write_text('# nothing\n')
    module.made, module.real_run, module.NEEDED_BYTES = [], module.run, 0

    def run(command, log, hint):
        if command[1:3] == ['-m', 'venv']:
            venv.create(command[3], symlinks=True)
            module.made.append(Path(command[3]))
            time.sleep(0.3)  # so long that a second set-up starts in the meantime

    monkeypatch.setattr(module, 'run', run)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setenv('PYTHON', sys.executable)
    monkeypatch.setattr(sys, 'argv', ['setup_env.py'])
    return module


def test_environment_is_created_once_and_only_its_path_is_on_stdout(setup, capsys):
    assert setup.main() == 0
    first = capsys.readouterr()
    python = Path(first.out.removesuffix('\n'))
    prefix = subprocess.run([python, '-c', 'import sys; print(sys.prefix)'], capture_output=True, text=True).stdout
    assert [Path(prefix.strip())] == setup.made == [python.parents[1]]
    assert 'setting up' in first.err
    assert setup.main() == 0
    second = capsys.readouterr()
    assert (second.out, second.err, len(setup.made)) == (first.out, '', 1)


def test_concurrent_set_ups_create_it_once(setup, capsys):
    threads = [threading.Thread(target=setup.main) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    captured = capsys.readouterr()
    assert len(setup.made) == 1
    assert 'waiting for it' in captured.err
    assert len(set(captured.out.split())) == 1


def test_an_incomplete_environment_is_recreated(setup):
    home = setup.environment('default').parents[1]
    (home / '.complete').unlink()
    (home / 'stray').touch()
    setup.environment('default')
    assert len(setup.made) == 2
    assert not (home / 'stray').exists()


def test_an_environment_without_its_interpreter_is_recreated(setup):
    python = setup.environment('default')
    python.unlink()
    assert setup.environment('default') == python
    assert len(setup.made) == 2


def test_other_requirements_give_another_environment(setup):
    for text in ('# a comment\n', '', 'numpy==1.0\n'):
        (setup.REQUIREMENTS / 'default.txt').write_text(text)
        setup.environment('default')
    assert len(setup.made) == 2
    assert setup.made[0] != setup.made[1]


def test_a_failing_command_names_its_log_and_leaves_no_marker(setup, monkeypatch, capsys):
    def failing(command, log, hint):
        setup.real_run([sys.executable, '-c', 'print("no such package"); raise SystemExit(1)'], log, hint)

    monkeypatch.setattr(setup, 'run', failing)
    assert setup.main() == 1
    captured = capsys.readouterr()
    line = captured.err.splitlines()[-1]
    assert captured.out == ''
    assert line.startswith('error: ')
    assert 'no such package' in line
    assert Path(line.split('log: ')[-1].rstrip(')')).read_text() == 'no such package\n'
    assert not list(setup.cache_home().rglob('.complete'))


@pytest.mark.parametrize(('argument', 'python', 'message'), [
    ('nonsense', sys.executable, 'usage: setup_env.py [default|upstream]'),
    ('default', '/nowhere/python', 'Python 3.11 or newer is required (PYTHON=/nowhere/python is older or not Python)'),
    ('default', '/bin/false', 'Python 3.11 or newer is required'),
])
def test_errors_are_one_line(setup, monkeypatch, capsys, argument, python, message):
    monkeypatch.setenv('PYTHON', python)
    monkeypatch.setattr(sys, 'argv', ['setup_env.py', argument])
    assert setup.main() == 1
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith(f'error: {message}')
    assert captured.err.count('\n') == 1


def test_a_full_disk_is_reported_before_the_set_up(setup, capsys):
    setup.NEEDED_BYTES = 1 << 60
    assert setup.main() == 1
    assert 'free some disk space, or set XDG_CACHE_HOME' in capsys.readouterr().err
    assert setup.made == []
