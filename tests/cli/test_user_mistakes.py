"""Every command with every mistake that its arguments allow: one line that names it, status 2, nothing written."""

import argparse
import re
from pathlib import Path

import pytest

from tests.cli.command_lines import COMMAND_NAMES, LINES, TOOLS, discover_tools, write_files, write_invalid
from tests.end_to_end.tiny_set import load_tool
from vitdet_plugin.cli import make_demo_set, pretrain_demo
from vitdet_plugin.cli.main import command_module, main
from vitdet_plugin.cli.process import run

MISSING = 'no_such_{}'
BUILD_MODELS = ('bench', 'cam', 'flops', 'report', 'token-labels', 'export', 'predict', 'test', 'train',
                'demo pretrain', 'convert')
WITH_LINES = [name for name in COMMAND_NAMES if LINES.get(name)]


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('good'))


@pytest.fixture(scope='module')
def invalid(good, tmp_path_factory):
    return write_invalid(tmp_path_factory.mktemp('invalid'), good)


@pytest.fixture
def fails(good, tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder and check how it fails."""
    def fails(command, line, expected, invalid=None, more=()):
        monkeypatch.setenv('TINY_SET', good['folder'])
        monkeypatch.chdir(tmp_path)
        names = {**good, 'out': str(tmp_path / 'out'), **(invalid or {})}
        words = [word.format(**names) for word in line.split()] + list(more)
        before = _files(good, tmp_path)
        capsys.readouterr()
        try:
            status = main([command, *words])
        except SystemExit as error:
            status = error.code
        shown = capsys.readouterr()
        errors = [each for each in shown.err.splitlines() if re.match(r'(vitdet [\w -]+: )?error: ', each)]
        assert len(errors) == 1, f'vitdet {command} {" ".join(words)}: {shown.err or shown.out}'
        assert expected in shown.err[shown.err.index('error: '):] and 'Traceback' not in shown.err
        assert 'tools/' not in shown.err  # an installed package has no such scripts
        assert status == 2
        assert _files(good, tmp_path) == before
    return fails


def _files(good, folder):
    return {path: path.stat().st_mtime_ns for root in (folder, Path(good['weights']).parent)
            for path in root.rglob('*') if path.is_file() or path.is_dir() and root == folder}


def cases():
    """(command, line, name in braces) of every input file of every command line."""
    for command in WITH_LINES:
        for line in LINES[command]:
            for name in dict.fromkeys(re.findall(r'{(\w+)}', line)):
                yield command, line, name


def test_every_command_has_lines():
    """A new command needs an entry in tests/cli/command_lines.py."""
    assert sorted(LINES) == COMMAND_NAMES


def test_every_tool_runs_a_command():
    assert sorted(TOOLS) == discover_tools()


@pytest.mark.parametrize('tool', sorted(TOOLS))
def test_a_tool_runs_the_same_code_as_its_command(tool):
    name, _, part = TOOLS[tool].partition(' ')
    main_of_tool = load_tool(tool).main
    function = getattr(main_of_tool, 'func', main_of_tool)
    module = {'make-set': make_demo_set, 'pretrain': pretrain_demo}.get(part) or command_module(name)
    if tool == 'dataset/convert':
        from vitdet_plugin.cli import convert_dataset as module
    assert function is module.main


def _lines(*names):
    return [pytest.param(command, line, name, id=f'{command}-{name}-{line}') for command, line, name in cases()
            if name in names or not names and name != 'out']


@pytest.mark.parametrize('command, line, name', _lines())
def test_wrong_path(command, line, name, fails):
    fails(command, line, expected := MISSING.format(name),
          {name: f'{expected}.py' if name == 'config' else expected})


@pytest.mark.parametrize('command', WITH_LINES)
def test_unknown_option(command, fails):
    fails(command, LINES[command][0], '--no-such-option', more=['--no-such-option'])


@pytest.mark.parametrize('command', WITH_LINES)
def test_wrong_key_of_the_config_and_wrong_device(command, fails):
    shown = command_module(command).build_parser().format_help()
    if '--cfg-options' in shown:
        fails(command, LINES[command][0], 'did you mean model', more=['--cfg-options', 'modle.x=1'])
        fails(command, LINES[command][0], 'expected KEY=VALUE', more=['--cfg-options', 'model'])
        if '--device' in shown:
            fails(command, LINES[command][0], "device 'gpu' is not available", more=['--device', 'gpu'])
    else:
        assert '{config}' not in LINES[command][0] or command == 'demo'


@pytest.mark.parametrize('mistake', [
    'config with a syntax error', 'unregistered name', 'missing import', 'config without a model'])
@pytest.mark.parametrize('command, line, name', _lines('config'))
def test_wrong_config(command, line, name, mistake, invalid, fails):
    if mistake in ('unregistered name', 'missing import') and not f'{command} {line}'.startswith(BUILD_MODELS):
        return  # these read the data only
    _, path, expected = invalid[mistake]
    fails(command, line, expected, {name: path})


@pytest.mark.parametrize('mistake', [
    'truncated checkpoint', 'empty checkpoint', 'checkpoint that is a text file', 'checkpoint of another model'])
@pytest.mark.parametrize('command, line, name', _lines('weights', 'state'))
def test_wrong_checkpoint(command, line, name, mistake, invalid, fails):
    _, path, expected = invalid[mistake]
    fails(command, line, expected, {name: path})


@pytest.mark.parametrize('mistake', ['broken json', 'json of another type', 'empty json'])
@pytest.mark.parametrize('command, line, name', [each for each in _lines('coco') if each.values[0] != 'check'])
def test_wrong_annotations(command, line, name, mistake, invalid, fails):
    """``vitdet check`` reports such files as findings, with status 1 (test_dataset_check.py)."""
    _, path, expected = invalid[mistake]
    fails(command, line, expected, {name: path})


@pytest.mark.parametrize('score', ['1.5', '-0.1', 'nan'])
@pytest.mark.parametrize('command', ['report', 'cam', 'bench', 'predict', 'serve'])
def test_scores_that_are_not_between_zero_and_one(command, score, fails):
    fails(command, LINES[command][0], f'--score-thr {score}: give a number from 0 to 1', more=['--score-thr', score])


@pytest.mark.parametrize('error, shown', [(OSError(28, 'No space left on device', 'a.png'), 'a.png: No space left'),
                                          (PermissionError(13, 'Permission denied', '/x'), '/x: Permission denied')])
def test_errors_of_the_system_are_one_line(error, shown, capsys, monkeypatch):
    def fail(args):
        raise error

    assert run(argparse.Namespace(), fail) == 2
    assert capsys.readouterr().err.startswith(f'error: {shown}')
    monkeypatch.setenv('VITDET_DEBUG', '1')
    with pytest.raises(OSError):
        run(argparse.Namespace(), fail)


@pytest.mark.parametrize('command, line, name', _lines('out'))
def test_unwritable_output(command, line, name, good, fails):
    """The folder to write to lies below a file."""
    fails(command, line, 'coco.json', {name: f'{good["coco"]}/out'})


@pytest.mark.parametrize('command, words, says', [
    ('bench', '--rounds 999999', '--rounds 999999: give at most'),
    ('browse', '--seed -1', '--seed -1: give a number from 0'),
    ('browse', '--repeats 0', '--repeats 0: give a number of at least 1'),
    ('browse', '--count -3', '--count -3: give a number of at least 1'),
    ('cam', '--method abc', "unknown method 'abc'"),
    ('cam', '--most 0', '--most 0: give a number of at least 1'),
    ('check', '--jobs 0', '--jobs 0: give a number of at least 1'),
    ('check', '--examples -1', '--examples -1: give a number of at least 0'),
    ('check', '--format coco', '--format coco is for the folder of a data set'),
    ('convert', '--patch-size -1', '--patch-size -1: give a number of at least 0'),
    ('demo', '--ranks 0', '--ranks 0: give a number of at least 1'),
    ('flops', '--repeats -1', '--repeats -1: give a number from 0'),
    ('flops', '--shape 999999999999', '--shape 999999999999: give at most'),
    ('mean-std', '--workers 0', '--workers 0: give a number of threads from 1'),
    ('predict', '--overlap nan', 'overlap=nan: give a part'),
    ('predict', '--threads 999999999999', '--threads 999999999999: give a number of threads from 1 to'),
    ('predict', '--top 0', '--top 0: give a number from 1'),
    ('serve', '--allow-host http://x/', "--allow-host 'http://x/': give the name of this machine alone"),
    ('serve', '--allow-host a:80', "--allow-host 'a:80': give the name of this machine alone"),
    ('serve', '--overlap -1', 'overlap=-1: give a part'),
    ('token-labels', '--top -1', '--top -1: give a number from 1'),
    ('token-labels', '--batch-size 0', '--batch-size 0: give a number'),
])
def test_values_outside_of_their_range(command, words, says, fails):
    line = LINES[command][0].replace(' --repeats 0', '').replace(' --port 0', '')
    fails(command, line, says, more=words.split())


@pytest.mark.parametrize('words', [['--out', ''], ['--out='], ['--device', ' ']])
def test_empty_values_are_errors(words, fails):
    """An unset variable of the shell: --out "$OUT"."""
    fails('predict', LINES['predict'][0], 'the value is empty', more=words)


@pytest.mark.parametrize('command, line', [
    ('test', '{config} {weights} --out {coco}'), ('flops', '{config} --json {coco}'),
    ('check', '--config {config} --json {coco}')])
def test_annotation_files_are_not_replaced(command, line, fails):
    fails(command, line, 'is an annotation file, which is not replaced')


@pytest.mark.parametrize('command, line, option', [
    ('check', '{coco} --json {coco}', '--json'), ('bench', '{config} {weights} --out {weights}', '--out'),
    ('mean-std', '{images} --ann {coco} --out {coco}', '--out'),
    ('report', '{config} {weights} --out {config}', '--out'),
    ('flops', '{config} --json {config}', '--json')])
def test_inputs_are_not_replaced(command, line, option, fails):
    fails(command, line, f'{option}: ', more=())


@pytest.mark.parametrize('command, line, words', [
    ('bench', '{config} {weights}', '--out {coco}'), ('convert', '{weights} {coco}', ''),
    ('export', '{config} {weights}', '--out {coco}'), ('flops', '{config}', '--json {names}'),
    ('demo', 'pretrain --config {config} --images 2 --steps 1', '--data {out} --out {coco}')])
def test_existing_files_of_other_kinds_are_not_replaced(command, line, words, fails):
    fails(command, f'{line} {words}', 'exists and is not a ')


@pytest.mark.parametrize('command, line', [('cam', '{config} {weights} {images} --out {images}'),
                                           ('test', '{config} {weights} --work-dir {out} --show-dir {images}')])
def test_images_are_not_replaced(command, line, good, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv('TINY_SET', good['folder'])
    images = {path: path.read_bytes() for path in Path(good['images']).iterdir()}
    words = [word.format(**good, out=str(tmp_path)) for word in line.split()]
    assert main([command, *words]) == 2
    assert ' would be replaced, which is an input; choose another path' in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path(good['images']).iterdir()} == images
