"""The choice of a backend: order, names, environment, and errors that give every reason."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ops_dcnv3 import dcnv3
from tests.ops_dcnv3.oracle import call, geometry, random_inputs
from vitdet_plugin.errors import UserError
from vitdet_plugin.ops import backend_info, dispatch
from vitdet_plugin.ops.dispatch import Backend, BackendError, Case, Operator
from vitdet_plugin.ops.mlstm import mlstm
from vitdet_plugin.ops.ms_deform_attn import ms_deform_attn
from vitdet_plugin.ops.nms import nms
from vitdet_plugin.ops.outlook_attention import outlook_attention
from vitdet_plugin.ops.rel_pos_attention import rel_pos_attention
from vitdet_plugin.ops.tap_softmax import tap_softmax

ROOT = Path(__file__).resolve().parents[2]
REFERENCES = dict(rel_pos_attention='dense', mlstm='parallel', outlook_attention='plain', tap_softmax='pytorch',
                  ms_deform_attn='pytorch', dcnv3='pytorch', nms='torchvision')
DCNV3_INPUTS = random_inputs(geometry(), dtype=torch.float32)
CALLS = dict(
    rel_pos_attention=lambda name: rel_pos_attention(*(torch.ones(1, 1, 4, n) for n in (3, 3, 3, 2, 2)), 1.0, name),
    mlstm=lambda name: mlstm(*(torch.ones(1, 5, 4) for _ in range(3)), torch.ones(1, 5), torch.ones(1, 5), form=name),
    outlook_attention=lambda name: outlook_attention(torch.ones(1, 4, 4, 6), torch.ones(1, 2, 2, 162), 2, form=name),
    tap_softmax=lambda name: tap_softmax(torch.ones(2, 18), 9, backend=name),
    ms_deform_attn=lambda name: ms_deform_attn(torch.ones(1, 6, 1, 4), [(2, 3)], torch.full((1, 2, 1, 1, 1, 2), 0.4),
                                               torch.ones(1, 2, 1, 1, 1), backend=name),
    nms=lambda name: nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 3]]), torch.tensor([0.5, 0.9]), 0.5, name),
    dcnv3=lambda name: call(dcnv3, DCNV3_INPUTS, geometry(), backend=name))


def for_cpu(case: Case) -> str | None:
    return None if case.device == 'cpu' else f'not for {case.device}'


def by_name(case: Case) -> str | None:
    return None if case.named else 'used only by name'


@pytest.fixture
def operator():
    return Operator('example', [Backend('fast', lambda: 1, for_cpu), Backend('odd', lambda: 2, by_name),
                                Backend('slow', lambda: 3, lambda case: None)])


def test_the_first_backend_that_can_serve_is_chosen(operator):
    assert operator.choose(Case('cpu')).name == 'fast'
    assert operator.choose(Case('cuda'), 'auto').name == 'slow'


def test_a_named_backend_is_chosen_and_preferences_do_not_count(operator):
    assert operator.choose(Case('cpu'), 'slow').run() == 3
    assert operator.choose(Case('cpu'), 'odd').run() == 2


@pytest.mark.parametrize(('name', 'message'), [
    ('quick', "example: 'quick' is unknown; choose auto or one of fast, odd, slow"),
    ('fast', r"example: 'fast' cannot serve this call: not for cuda\. Choose auto or another backend "
             r"\(fast: not for cuda; odd: used only by name; slow: available\)")])
def test_errors_list_every_backend_with_its_reason(operator, name, message):
    for error in (UserError, ValueError, RuntimeError):
        with pytest.raises(error, match=message) as raised:
            operator.choose(Case('cuda'), name)
        assert '\n' not in str(raised.value)


def test_an_operator_without_a_backend_for_the_call_is_an_error(operator):
    del operator.backends['slow']
    with pytest.raises(BackendError, match=r'no backend can serve this call \(fast: not for xpu; odd: used only'):
        operator.choose(Case('xpu'))


def test_the_environment_names_the_backend_unless_the_call_does(monkeypatch):
    monkeypatch.setenv('VITDET_OPS_EXAMPLE', 'slow')
    operator = Operator('example', [Backend('fast', lambda: 1, for_cpu), Backend('slow', lambda: 3, for_cpu)])
    assert operator.choose(Case('cpu')).name == operator.choose(Case('cpu'), 'auto').name == 'slow'
    assert operator.choose(Case('cpu'), 'fast').name == 'fast'
    assert operator.info('cpu') == {'backend': 'slow', 'rejected': {'fast': 'VITDET_OPS_EXAMPLE=slow is set'}}
    assert operator.info('cuda')['backend'] is None
    with pytest.raises(BackendError, match=r"'slow' \(set by VITDET_OPS_EXAMPLE\) cannot serve this call: not for cu"):
        operator.choose(Case('cuda'))


def test_an_unknown_name_in_the_environment_is_an_error_of_the_call(monkeypatch):
    monkeypatch.setenv('VITDET_OPS_EXAMPLE', 'quick')
    operator = Operator('example', [Backend('fast', lambda: 1, for_cpu)])
    assert operator.info('cpu')['rejected']['quick'] == 'VITDET_OPS_EXAMPLE=quick is set, but there is no such backend'
    with pytest.raises(BackendError, match=r"'quick' \(set by VITDET_OPS_EXAMPLE\) is unknown; .*\(fast: available\)"):
        operator.choose(Case('cpu'))


def test_backend_info_covers_every_operator_device_and_backend():
    info = backend_info()
    assert set(info) == set(REFERENCES)
    for name, devices in info.items():
        backends = set(dispatch.load_operator(name).backends)
        assert set(devices) == {'cpu', 'cuda'}
        for each in devices.values():
            assert {each['backend'], *each['rejected']} == backends
            assert all(each['rejected'].values())


@pytest.mark.parametrize('name', REFERENCES)
def test_backend_info_agrees_with_what_runs(name, monkeypatch):
    expected = 'parallel' if name == 'mlstm' else backend_info()[name]['cpu']['backend']  # used for 5 tokens
    operator, used = dispatch.load_operator(name), []
    choose = operator.choose
    monkeypatch.setattr(operator, 'choose', lambda *args: used.append(choose(*args).name) or choose(*args))
    CALLS[name](None)
    assert used == [expected]


@pytest.mark.parametrize('name', REFERENCES)
def test_every_operator_takes_a_name_and_rejects_an_unknown_one(name):
    torch.testing.assert_close(CALLS[name](REFERENCES[name]), CALLS[name]('auto'), atol=1e-4, rtol=1e-4)
    with pytest.raises(BackendError, match=f"{name}: 'tpu' is unknown; choose auto or one of .*{REFERENCES[name]}"):
        CALLS[name]('tpu')


def test_the_table_names_every_backend():
    text = dispatch.format_info(backend_info())
    for name in REFERENCES:
        assert sum(line.startswith(f'{name} ') for line in text.splitlines()) == 2
    assert 'dense: available, but c' in text  # cpu, or chunked where it is not compiled


def test_the_command_prints_the_choice_of_the_environment():
    done = subprocess.run([sys.executable, '-m', 'vitdet_plugin.ops'], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, 'VITDET_OPS_MLSTM': 'recurrent', 'VITDET_OPS_NATIVE': '0'})
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ['mlstm', 'cpu', 'recurrent'] in [line[:3] for line in lines]
    assert ['dcnv3', 'cpu', 'pytorch', 'cpu:', 'VITDET_OPS_NATIVE=0', 'is', 'set'] in lines


def test_the_dispatch_module_imports_no_torch():
    code = ('import sys, types; package = types.ModuleType("vitdet_plugin"); package.__path__ = ["vitdet_plugin"]\n'
            'sys.modules["vitdet_plugin"] = package; import vitdet_plugin.ops.dispatch\n'
            'assert "torch" not in sys.modules')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_operator_traces_without_a_graph_break():
    for name, run in CALLS.items():
        if name == 'nms':  # the length of its result depends on the data
            continue
        compiled = torch.compile(lambda x, run=run: run(None) + x, fullgraph=True, backend='aot_eager')
        torch.testing.assert_close(compiled(torch.zeros(1)), run(None), atol=1e-5, rtol=1e-5, msg=name)
