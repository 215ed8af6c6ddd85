"""Compiled libraries: found, refused, broken, opted out of; importing works in all cases."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ops_dcnv3 import build, library, native
from tests.ops_dcnv3.oracle import BACKENDS, geometry, random_inputs

ROOT = Path(__file__).resolve().parents[2]
STATEMENT = 'import ops_dcnv3; info = ops_dcnv3.backend_info(); print(info["active"]["cpu"], info["cpu"], sep="|")'


def active(cache: Path, **variables) -> list[str]:
    """The backend of a fresh process and what it says about the compiled one."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'XDG_CACHE_HOME': str(cache), **variables}
    done = subprocess.run([sys.executable, '-c', STATEMENT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split('|')


def test_without_a_library_pytorch_serves_and_says_what_to_do(tmp_path):
    if any(library.PACKAGE.glob('_native_cpu_*')):
        pytest.skip('a library lies beside the package')
    assert active(tmp_path) == ['pytorch', 'not compiled; build it: python -m ops_dcnv3.build']


def test_a_broken_library_does_no_harm(tmp_path):
    if library.find('cpu') and library.find('cpu').parent == library.PACKAGE:
        pytest.skip('a library lies beside the package')
    folder = tmp_path / 'vitdet_plugin/ops'
    folder.mkdir(parents=True)
    (folder / f'{library.module_name("cpu")}.so').write_bytes(b'no library')
    backend, reason = active(tmp_path)
    assert backend == 'pytorch'
    assert f'{library.module_name("cpu")}.so does not load: ' in reason


def test_opting_out(tmp_path, monkeypatch, capsys):
    assert active(tmp_path, OPS_DCNV3_NATIVE='0') == ['pytorch', 'OPS_DCNV3_NATIVE=0 is set']
    monkeypatch.setenv('OPS_DCNV3_NATIVE', '0')
    assert build.main([]) == 0
    assert capsys.readouterr().out == 'nothing built: OPS_DCNV3_NATIVE=0 is set\n'
    assert build.setup_options() == {}


def test_the_key_follows_the_sources(tmp_path, monkeypatch):
    (tmp_path / 'csrc/cpu').mkdir(parents=True)
    (tmp_path / 'build.py').touch()
    monkeypatch.setattr(library, 'PACKAGE', tmp_path)
    monkeypatch.setattr(library, 'SOURCES', tmp_path / 'csrc')
    keys = []
    for text in ('a', 'b', 'a'):
        (tmp_path / 'csrc/cpu/op.cpp').write_text(text)
        keys.append(library.key.__wrapped__('cpu'))
    assert keys[0] == keys[2] != keys[1]


def test_without_a_compiler_nothing_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    monkeypatch.setattr(library, 'find', lambda kind: None)
    assert build.main(['--quiet']) == 0
    assert capsys.readouterr().out == ''
    assert build.main([]) == 1
    assert 'no C++ compiler found; the PyTorch backend serves instead' in capsys.readouterr().out


@pytest.mark.skipif(shutil.which('g++') is None, reason='no compiler')
def test_a_failing_compiler_is_reported_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(library, 'find', lambda kind: None)
    compiler = tmp_path / 'c++'
    compiler.write_text('#!/bin/sh\ncase "$1" in -*ersion) exec g++ "$@";; esac\n'
                        'echo "error: this compiler never succeeds" >&2\nexit 1\n')
    compiler.chmod(0o755)
    monkeypatch.setenv('CXX', str(compiler))
    assert build.main(['--quiet']) == 0
    assert 'this compiler never succeeds' in capsys.readouterr().out
    assert [path.suffix for path in (tmp_path / 'vitdet_plugin/ops').iterdir()] == ['.lock']


def test_a_waiting_process_takes_what_the_first_one_built(tmp_path, monkeypatch):
    library_file = tmp_path / f'{library.module_name("cpu")}.so'
    monkeypatch.setattr(library, 'find', lambda kind: library_file)
    monkeypatch.setattr(subprocess, 'run', lambda *a, **k: pytest.fail('compiled although it was there'))
    assert build.compile_kind('cpu', tmp_path) == library_file


@pytest.mark.skipif('cpu' not in BACKENDS, reason=f'no compiled operator: {native.STATUS["cpu"]}')
class TestLoaded:
    def test_the_operator_checks_for_itself(self):
        """It can be called without the function that checks."""
        geo = geometry()
        x, offset, mask = random_inputs(geo, dtype=torch.float32)
        op, lists = torch.ops.vitdet_plugin.dcnv3, native._lists(geo)
        for tensors in [(x[..., :4], offset, mask), (x, offset[:, :3], mask), (x, offset, mask[:1])]:
            with pytest.raises(ValueError, match='dcnv3'):
                op(*tensors, *lists)
        with pytest.raises(TypeError, match='different types'):
            op(x, offset.double(), mask, *lists)

    @pytest.mark.parametrize('isa', ['base', 'avx2'])
    def test_every_instruction_set_gives_the_same(self, isa, tmp_path):
        geo = geometry(group_channels=29, kernel=(3, 2))
        torch.save(random_inputs(geo, dtype=torch.float32), tmp_path / 'in.pt')
        code = ('import sys, torch; from ops_dcnv3 import native\n'
                'tensors = [t.requires_grad_() for t in torch.load(sys.argv[1])]\n'
                f'out = torch.ops.vitdet_plugin.dcnv3(*tensors, *{native._lists(geo)!r})\n'
                'torch.save([out.detach(), *torch.autograd.grad(out.sum(), tensors)], sys.argv[2])')
        results = []
        for level in ('', isa):
            out = tmp_path / f'out{level}.pt'
            subprocess.run([sys.executable, '-c', code, str(tmp_path / 'in.pt'), str(out)], check=True,
                           env={**os.environ, 'PYTHONPATH': str(ROOT), 'OPS_DCNV3_ISA': level})
            results.append(torch.load(out))
        for ours, expected in zip(*results):
            torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-5)

    @pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-14), (torch.float32, 3e-7),
                                                      (torch.bfloat16, 4e-3), (torch.float16, 5e-4)])
    def test_softmax_equals_pytorchs(self, dtype, tolerance):
        for taps, runs in ((9, 37), (1, 3), (24, 16), (4, 0)):
            logits = (40 * torch.randn(2, 5, runs * taps, dtype=torch.float64)).to(dtype).requires_grad_()
            grad = torch.randn(logits.shape, dtype=torch.float64).to(dtype)
            wide = logits.detach().double().requires_grad_()
            expected = wide.unflatten(-1, (runs, taps)).softmax(-1).flatten(-2)
            out = torch.ops.vitdet_plugin.tap_softmax(logits, taps)
            torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=tolerance)
            ours, = torch.autograd.grad(out, logits, grad)
            theirs, = torch.autograd.grad(expected, wide, grad.double())
            torch.testing.assert_close(ours.double(), theirs, atol=4 * tolerance, rtol=4 * tolerance)
        if dtype == torch.float64:
            torch.library.opcheck(torch.ops.vitdet_plugin.tap_softmax, (torch.randn(2, 18, requires_grad=True), 9))

    def test_softmax_keeps_what_is_not_a_number(self):
        logits = torch.zeros(3, 9)
        logits[0, 3], logits[1, 4], logits[2, 1:] = float('nan'), float('inf'), -float('inf')
        out = torch.ops.vitdet_plugin.tap_softmax(logits, 9)
        assert torch.equal(out.isnan(), logits.softmax(-1).isnan())
        assert out[2].tolist() == [1.0] + 8 * [0.0]
        with pytest.raises(ValueError, match='not a multiple of 7'):
            torch.ops.vitdet_plugin.tap_softmax(logits, 7)

    @pytest.mark.parametrize('size', [(1, 40), (2, 3)])
    def test_threads_share_the_work_without_changing_it(self, size):
        """One image and one group: rows are cut into bands."""
        geo = geometry(group=1, group_channels=16)
        tensors = [t.requires_grad_() for t in random_inputs(geo, 1, (21, 17))]
        before = torch.get_num_threads()
        results = []
        try:
            for threads in (1, 4):
                torch.set_num_threads(threads)
                out = torch.ops.vitdet_plugin.dcnv3(*tensors, *native._lists(geo))
                results.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
        finally:
            torch.set_num_threads(before)
        for ours, expected in zip(*results):
            torch.testing.assert_close(ours, expected, atol=1e-10, rtol=1e-10)
