"""Every command against every mistake that its arguments allow: one line that names it, status 2, nothing written."""

import re
from pathlib import Path

import pytest

from tests.end_to_end.tiny_set import load_tool
from tests.tools.command_lines import LINES, discover, write_files, write_spoilt

TOOLS = discover()
MISSING = 'no_such_{}'
WHERE_MODELS_ARE_BUILT = ('analysis/', 'dataset/token_labels', 'export/', 'predict', 'test', 'train', 'pretrain_demo',
                          'model_converters/')


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp('good'))


@pytest.fixture(scope='module')
def spoilt(good, tmp_path_factory):
    return write_spoilt(tmp_path_factory.mktemp('spoilt'), good)


@pytest.fixture(scope='module')
def tools():
    return {name: load_tool(name) for name in TOOLS if LINES.get(name)}


@pytest.fixture
def fails(tools, good, tmp_path, monkeypatch, capsys):
    """Run a command line in an empty folder and check how it fails."""
    def fails(tool, line, says, spoilt=None, more=()):
        monkeypatch.setenv('TINY_SET', good['folder'])
        monkeypatch.chdir(tmp_path)
        names = {**good, 'out': str(tmp_path / 'out'), **(spoilt or {})}
        words = [word.format(**names) for word in line.split()] + list(more)
        before = _files(good, tmp_path)
        capsys.readouterr()
        try:
            status = tools[tool].main(words)
        except SystemExit as error:
            status = error.code
        shown = capsys.readouterr()
        errors = [each for each in shown.err.splitlines() if re.match(r'(\S+: )?error: ', each)]
        assert len(errors) == 1, f'tools/{tool}.py {" ".join(words)}: {shown.err or shown.out}'
        told = shown.err[shown.err.index('error: '):]
        assert says in told and 'Traceback' not in shown.err
        assert status == 2
        assert _files(good, tmp_path) == before
    return fails


def _files(good, folder):
    return {path: path.stat().st_mtime_ns for root in (folder, Path(good['weights']).parent)
            for path in root.rglob('*') if path.is_file() or path.is_dir() and root == folder}


def cases():
    """(tool, line, name in braces) of every input file of every command line."""
    for tool in TOOLS:
        for line in LINES.get(tool, ()):
            for name in dict.fromkeys(re.findall(r'{(\w+)}', line)):
                yield tool, line, name


def test_every_tool_is_here():
    """A new tool needs a line in tests/tools/command_lines.py."""
    assert sorted(LINES) == TOOLS


def _lines(*names):
    return [pytest.param(tool, line, name, id=f'{tool}-{name}-{line}') for tool, line, name in cases() if name in names
            or not names and name != 'out']


@pytest.mark.parametrize('tool, line, name', _lines())
def test_wrong_path(tool, line, name, fails):
    fails(tool, line, says := MISSING.format(name), {name: f'{says}.py' if name == 'config' else says})


@pytest.mark.parametrize('tool', [tool for tool in TOOLS if LINES.get(tool)])
def test_unknown_option(tool, fails):
    fails(tool, LINES[tool][0], '--no-such-option', more=['--no-such-option'])


@pytest.mark.parametrize('tool', [tool for tool in TOOLS if LINES.get(tool)])
def test_wrong_key_of_the_config_and_wrong_device(tool, tools, fails, capsys):
    with pytest.raises(SystemExit):
        tools[tool].main(['--help'])
    shown = capsys.readouterr().out
    if '--cfg-options' in shown:
        fails(tool, LINES[tool][0], 'did you mean model', more=['--cfg-options', 'modle.x=1'])
        fails(tool, LINES[tool][0], 'expected KEY=VALUE', more=['--cfg-options', 'model'])
        if '--device' in shown:
            fails(tool, LINES[tool][0], "device 'gpu' is not there", more=['--device', 'gpu'])
    else:
        assert '{config}' not in LINES[tool][0] or tool in ('demo', 'pretrain_demo')


@pytest.mark.parametrize('mistake', [
    'config that is no Python', 'unregistered name', 'missing import', 'config without anything'])
@pytest.mark.parametrize('tool, line, name', _lines('config'))
def test_wrong_config(tool, line, name, mistake, spoilt, fails):
    if mistake in ('unregistered name', 'missing import') and not tool.startswith(WHERE_MODELS_ARE_BUILT):
        return  # these look at the data only
    _, path, says = spoilt[mistake]
    fails(tool, line, says, {name: path})


@pytest.mark.parametrize('mistake', [
    'checkpoint that is cut off', 'empty checkpoint', 'checkpoint that is none', 'checkpoint of another model'])
@pytest.mark.parametrize('tool, line, name', _lines('weights', 'state'))
def test_wrong_checkpoint(tool, line, name, mistake, spoilt, fails):
    _, path, says = spoilt[mistake]
    fails(tool, line, says, {name: path})


@pytest.mark.parametrize('mistake', ['broken json', 'json of another kind', 'empty json'])
@pytest.mark.parametrize('tool, line, name', [each for each in _lines('coco') if each.values[0] != 'dataset/check'])
def test_wrong_annotations(tool, line, name, mistake, spoilt, fails):
    """tools/dataset/check.py is for such files: they are its findings, status 1 (test_dataset_check.py)."""
    _, path, says = spoilt[mistake]
    fails(tool, line, says, {name: path})


@pytest.mark.parametrize('tool, line, name', _lines('out'))
def test_no_place_to_write(tool, line, name, good, fails):
    """The folder to write to lies below a file."""
    fails(tool, line, 'coco.json', {name: f'{good["coco"]}/out'})
