"""Triton kernels without a GPU: the tests of ``kernels/`` in the interpreter, compiling ahead of time, reasons."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tests.devices import ON_GPU
from vitdet_plugin.ops import triton_support, tuning
from vitdet_plugin.ops.dispatch import Case, load_operator

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / 'tests' / 'ops' / 'kernels'
OPERATORS = ['rel_pos_attention', 'dcnv3', 'outlook_attention', 'mlstm', 'ms_deform_attn', 'nms']
requires_triton = pytest.mark.skipif(triton_support.MISSING is not None, reason=str(triton_support.MISSING))


@pytest.fixture(scope='module')
def interpreted(tmp_path_factory):
    """Outcomes of the tests in ``kernels/`` by file, and what pytest printed.

    In one new process, because Triton reads the variable when it is imported.
    """
    xml = tmp_path_factory.mktemp('kernels') / 'outcomes.xml'
    done = subprocess.run([sys.executable, '-m', 'pytest', '-q', '--noconftest', '-p', 'tests.devices', '--junitxml',
                           str(xml), 'tests/ops/kernels'], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, 'TRITON_INTERPRET': '1', 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'})
    printed = done.stdout[-8000:] + done.stderr
    assert xml.exists(), printed
    outcomes = {}
    for case in ElementTree.parse(xml).iter('testcase'):
        outcomes.setdefault(case.get('classname').split('.')[-1], []).append([part.tag for part in case])
    return outcomes, printed


@requires_triton
@pytest.mark.skipif(ON_GPU, reason='these tests run on the GPU')
@pytest.mark.timeout(1200)  # the first starts them all
@pytest.mark.parametrize('file', sorted(path.stem for path in KERNELS.glob('test_*.py')))
def test_kernels_in_the_interpreter(file, interpreted):
    """All pass, and none is skipped."""
    outcomes, printed = interpreted
    assert outcomes.get(file), printed
    assert not [tags for tags in outcomes[file] if set(tags) & {'failure', 'error', 'skipped'}], printed


@requires_triton
@pytest.mark.parametrize('name', OPERATORS)
def test_kernels_compile_for_a_gpu(name):
    """What the interpreter accepts and the compiler does not: one launch of each kernel, for sm_90."""
    from tests.ops import launches
    from tests.ops.ahead_of_time import compiling
    with compiling(launches.kernels(name)) as compiled:
        launches.LAUNCH[name](torch.bfloat16)
    assert compiled
    assert all(result.asm['cubin'] for *_, result in compiled)


@pytest.mark.parametrize('name', OPERATORS)
def test_auto_takes_triton_on_a_gpu_and_not_elsewhere(name, monkeypatch):
    monkeypatch.setattr(triton_support, 'MISSING', None)
    monkeypatch.setattr(triton_support, 'INTERPRETED', False)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)  # no GPU whose capability counts
    monkeypatch.setattr(triton_support, '_gpu_reasons', {})
    operator = load_operator(name)
    dtype = torch.float32 if name == 'nms' else torch.bfloat16
    assert operator.choose(Case('cuda', dtype)).name == 'triton'
    assert operator.choose(Case('cuda', torch.float64)).name != 'triton'
    assert operator.choose(Case('cuda', dtype, exporting=True)).name != 'triton'
    for device in ('cpu', 'meta', 'xpu'):
        assert operator.why_not(Case(device))['triton'] == f'serves tensors on a GPU, not on {device}'


@pytest.mark.parametrize(('version', 'variable', 'reason'), [
    ('3.1.0', None, 'Triton 3.1.0 is too old; 3.2 or newer is required'),
    ('3.2.0+git1', None, None),
    ('3.10.0', None, None),
    ('2.3.1', None, 'Triton 2.3.1 is too old; 3.2 or newer is required'),
    (None, None, 'Triton is not installed (pip install triton)'),
    ('3.8.0', '0', 'VITDET_OPS_TRITON=0 is set')])
def test_why_triton_is_not_used(version, variable, reason, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: version and object())
    monkeypatch.setattr(importlib.metadata, 'version', lambda name: version)
    monkeypatch.delenv(triton_support.OPT_OUT, raising=False)
    if variable:
        monkeypatch.setenv(triton_support.OPT_OUT, variable)
    assert triton_support._why_missing() == reason


def test_an_old_gpu_is_a_reason(monkeypatch):
    monkeypatch.setattr(triton_support, 'MISSING', None)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', lambda: 0)
    monkeypatch.setattr(triton_support, '_gpu_reasons', {})
    old = type('Properties', (), dict(major=7, minor=5))
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: old)
    assert triton_support.why_not(Case('cuda')) == 'requires compute capability 8.0; this GPU has 7.5'


def test_importing_the_operators_imports_no_triton():
    code = ('import torch, sys; loaded = "triton" in sys.modules\n'
            'from vitdet_plugin.ops import backend_info; backend_info()\n'
            'assert loaded or "triton" not in sys.modules')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@requires_triton
def test_measured_choices_are_kept_and_too_large_ones_are_left_out(tmp_path, monkeypatch):
    """The time of each choice is imitated; the first does not fit the GPU."""
    from triton import OutOfResources
    calls = []

    class Event:
        clock = 0.0

        def __init__(self, **kwargs):
            self.time = 0.0

        def record(self):
            self.time = Event.clock

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            return end.time - self.time

    def launch(choice):
        calls.append(choice.blocks['BLOCK'])
        if choice.blocks['BLOCK'] == 256:
            raise OutOfResources(300, 200, 'shared memory')
        Event.clock += choice.blocks['BLOCK']

    monkeypatch.setattr(triton_support, 'INTERPRETED', False)
    monkeypatch.setattr(torch.cuda, 'Event', Event)
    monkeypatch.setattr(torch.cuda, 'is_current_stream_capturing', lambda: False)
    monkeypatch.setattr(tuning, '_file', lambda: tmp_path / 'a' / 'choices.json')
    monkeypatch.setattr(tuning, '_chosen', {})
    tuning._stored.cache_clear()
    choices = [tuning.Choice(dict(BLOCK=size)) for size in (256, 128, 64)]
    tensor = torch.zeros(1)
    tuning.launch_tuned(('example', 7), choices, launch, tensor)
    assert calls[-1] == 64
    for clear in (lambda: None, tuning._chosen.clear, lambda: (tuning._chosen.clear(), tuning._stored.cache_clear())):
        clear()  # the process, the file's content, the file
        calls.clear()
        tuning.launch_tuned(('example', 7), choices, launch, tensor)
        assert calls == [64]
    torch.use_deterministic_algorithms(True)
    try:
        calls.clear()
        tuning.launch_tuned(('example', 7), choices, launch, tensor)
    finally:
        torch.use_deterministic_algorithms(False)
    assert calls == [256, 128]  # the first that fits
    monkeypatch.setenv(tuning.VARIABLE, '0')
    calls.clear()
    tuning.launch_tuned(('example', 8), choices, launch, tensor)
    assert calls == [256, 128]
    tuning._stored.cache_clear()
