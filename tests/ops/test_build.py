"""Compiled libraries: found, rejected, broken, turned off; importing works in all cases."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ops_dcnv3.build
from vitdet_plugin.ops import build, library
from vitdet_plugin.ops.library import Library

ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = {name: build.load_library(name) for name in library.MODULES}
STATEMENT = ('from vitdet_plugin.ops import backend_info; import ops_dcnv3; info = backend_info()\n'
             'for name in ("outlook_attention", "tap_softmax", "ms_deform_attn", "dcnv3"):\n'
             '    print(info[name]["cpu"]["backend"], *info[name]["cpu"]["rejected"].values(), sep="|")\n'
             'print(ops_dcnv3.backend_info()["active"]["cpu"], ops_dcnv3.backend_info()["cpu"], sep="|")')
installed = pytest.mark.skipif(any(any(each.folder.glob('_native_*')) for each in LIBRARIES.values()),
                               reason='libraries are installed in the package')


def reports(cache: Path, **variables) -> list[list[str]]:
    """In a new process, the backend and reasons of the operators with a compiled kernel, then of ops_dcnv3."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'XDG_CACHE_HOME': str(cache), **variables}
    done = subprocess.run([sys.executable, '-c', STATEMENT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.split('|') for line in done.stdout.strip().splitlines()]


@installed
def test_without_a_library_pytorch_is_used_and_the_reason_says_what_to_do(tmp_path):
    outlook, softmax, deformable, dcnv3, package = reports(tmp_path)
    reason = 'not compiled; build it: python -m vitdet_plugin.ops.build'
    assert outlook[:2] == ['plain', reason]
    assert softmax[:2] == deformable[:2] == ['pytorch', reason]
    assert dcnv3[:2] == package == ['pytorch', 'not compiled; build it: python -m ops_dcnv3.build']


@installed
def test_a_broken_library_is_reported(tmp_path):
    folder = tmp_path / 'vitdet_plugin/ops'
    folder.mkdir(parents=True)
    for each in LIBRARIES.values():
        (folder / f'{each.module_name("cpu")}.so').write_bytes(b'not a library')
    for name, (backend, reason, *_) in zip(('ops', 'ops', 'ops', 'dcnv3', 'dcnv3'), reports(tmp_path)):
        assert backend in ('plain', 'pytorch')
        assert f'{LIBRARIES[name].module_name("cpu")}.so does not load: ' in reason


@pytest.mark.parametrize('variable', ['OPS_DCNV3_NATIVE', 'VITDET_OPS_NATIVE'])
def test_the_environment_turns_compiled_operators_off(variable, tmp_path, monkeypatch, capsys):
    reason = f'{variable}=0 is set'
    outlook, softmax, deformable, dcnv3, package = reports(tmp_path, **{variable: '0'})
    assert outlook[:2] == ['plain', reason]
    assert softmax[:2] == deformable[:2] == dcnv3[:2] == package == ['pytorch', reason]
    monkeypatch.setenv(variable, '0')
    assert build.main([]) == ops_dcnv3.build.main([]) == 0
    assert capsys.readouterr().out == 2 * f'nothing built: {reason}\n'
    assert build.setup_options() == {}


def test_the_key_depends_on_the_sources(tmp_path):
    (tmp_path / 'csrc/cpu').mkdir(parents=True)
    example, keys = Library('example', 'example', tmp_path), []
    for text in ('a', 'b', 'a'):
        (tmp_path / 'csrc/cpu/op.cpp').write_text(text)
        keys.append(Library.key.__wrapped__(example, 'cpu'))
    assert keys[0] == keys[2] != keys[1]


def test_every_library_has_sources_and_a_root_that_imports_its_package():
    for each in LIBRARIES.values():
        for kind in each.kinds:
            assert each.sources(kind)
        assert each.root / each.package.replace('.', '/') == each.folder


def test_an_installation_builds_all_libraries(monkeypatch):
    monkeypatch.delenv('FORCE_CUDA', raising=False)
    monkeypatch.setattr(build, 'should_build_cuda', lambda: True)
    monkeypatch.setattr(build, 'extension', lambda which, kind: f'{which.package} {kind}')
    assert build.setup_options()['ext_modules'] == ['vitdet_plugin.ops cpu', 'ops_dcnv3 cpu', 'ops_dcnv3 cuda']


def test_without_a_compiler_nothing_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setattr(Library, 'find', lambda self, kind: None)
    assert build.main(['--quiet']) == 0
    assert capsys.readouterr().out == ''
    assert build.main([]) == 1
    message = 'no C++ compiler found; the PyTorch backends are used instead'
    assert capsys.readouterr().out.splitlines() == [f'ops, cpu: {message}', f'dcnv3, cpu: {message}']


@pytest.mark.skipif(shutil.which('g++') is None, reason='no compiler')
def test_a_failing_compiler_is_reported_and_leaves_no_files(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(Library, 'find', lambda self, kind: None)
    compiler = tmp_path / 'c++'
    compiler.write_text('#!/bin/sh\ncase "$1" in -v|-*ersion) exec g++ "$@";; esac\n'
                        'echo "error: this compiler never succeeds" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv('CXX', str(compiler))
    assert ops_dcnv3.build.main(['--quiet']) == 0
    assert 'this compiler never succeeds' in capsys.readouterr().out
    assert [path.suffix for path in (tmp_path / 'vitdet_plugin/ops').iterdir()] == ['.lock']


def test_a_waiting_process_uses_what_the_first_one_built(tmp_path, monkeypatch):
    file = tmp_path / f'{LIBRARIES["ops"].module_name("cpu")}.so'
    monkeypatch.setattr(Library, 'find', lambda self, kind: file)
    monkeypatch.setattr(subprocess, 'run', lambda *a, **k: pytest.fail('compiled although it was built already'))
    assert build.compile_kind(LIBRARIES['ops'], 'cpu', tmp_path) == file
