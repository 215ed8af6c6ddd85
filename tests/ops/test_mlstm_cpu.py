"""The compiled steps of the chunkwise mLSTM cell against those in PyTorch."""

from unittest import mock

import pytest
import torch

from tests.ops.test_mlstm import assert_same, inputs, value_and_gradients
from vitdet_plugin.ops.mlstm import chunkwise, cpu, operator
from vitdet_plugin.ops.native import STATUS

pytestmark = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operators: {STATUS["cpu"]}')


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-12), (torch.float32, 1e-4),
                                                  (torch.bfloat16, 3e-2), (torch.float16, 5e-3)])
@pytest.mark.parametrize(('length', 'chunk'), [(1, None), (37, 8), (70, 35), (196, None), (300, 150)])
def test_values_and_gradients_equal_those_of_pytorch(dtype, tolerance, length, chunk):
    q, k, v, *gates = inputs(length, dim=20, dtype=torch.float64)
    args = [x.detach().to(dtype).requires_grad_() for x in (q, k, v)]
    args += [x.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_() for x in gates]
    found = value_and_gradients(args, form='chunkwise', chunk=chunk)
    with mock.patch.object(cpu, 'can_serve', return_value=False):
        expected = value_and_gradients(args, form='chunkwise', chunk=chunk)
    assert all(a.dtype == b.dtype for a, b in zip(found, expected, strict=True))
    assert_same(found, expected, tolerance)


@pytest.mark.parametrize('closed', [slice(0, 3), slice(2, 40), slice(0, 48)])
def test_what_depends_on_the_gates_alone(closed):
    generator = torch.Generator().manual_seed(0)
    i_gate, log_f = torch.randn(3, 48, generator=generator), -torch.rand(3, 48, generator=generator)
    i_gate[0, closed], log_f[0, closed] = chunkwise.CLOSED_GATE, 0
    i_gate[2] = 1.0  # equal maxima
    log_f[2] = 0
    for chunk in (48, 16):
        found, expected = (f(i_gate, log_f, chunk, torch.float32) for f in (chunkwise._gates, chunkwise.chunk_gates))
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b)


def test_gates_that_are_not_numbers_reach_the_output():
    args = [x.detach() for x in inputs(40, dtype=torch.float32)]
    args[3][0, 20] = torch.nan
    out = operator.run(*args[:3], args[3], torch.nn.functional.logsigmoid(args[4]), 8)
    assert out[0, 20:].isnan().all() and not out[0, :16].isnan().any() and not out[1].isnan().any()


@pytest.mark.parametrize('reverse', [False, True])
def test_states_between_chunks(reverse):
    added, keep = torch.randn(2, 5, 40, 30), torch.rand(2, 5)
    found = chunkwise._states(added, keep, reverse=reverse)
    with mock.patch.object(cpu, 'can_serve', return_value=False):
        torch.testing.assert_close(found, chunkwise._states(added, keep, reverse=reverse))
    assert chunkwise._states(added.bfloat16(), keep).dtype == torch.bfloat16
    assert chunkwise._states(added.bfloat16(), keep, wide=True).dtype == torch.float32


def test_the_result_does_not_depend_on_the_number_of_threads():
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            scores, grads = (torch.linspace(-1, 1, 3 * 70 * 70).view(3, 70, 70) * factor for factor in (1, -2))
            key, query = -torch.rand(2, 3, 1, 70, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            sums = cpu.weigh_backward(scores, grads, torch.ones(3, 70), key, query, 0.5)
            results.append([scores, grads, *sums])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_wrong_shapes_are_refused():
    scores, key = torch.ones(2, 4, 4), torch.zeros(2, 1, 4, dtype=torch.float64)
    for wrong in (key[:, :, :3].contiguous(), key.float(), key[:1]):
        with pytest.raises(ValueError, match='mlstm: the scores, keys and queries'):
            cpu.weigh(scores, wrong, wrong, 1.0)
    with pytest.raises(ValueError, match='mlstm: the gradients'):
        cpu.weigh_backward(scores, scores.double(), torch.ones(2, 4), key, key, 1.0)
    with pytest.raises(ValueError, match='mlstm_gates'):
        cpu.chunk_gates(torch.ones(2, 4), torch.ones(2, 4), 3)
    with pytest.raises(ValueError, match='mlstm_memories'):
        cpu.memories(torch.ones(2, 3, 4), torch.ones(2, 2), reverse=False, wide=False)


def test_traced_shapes_are_those_of_the_result():
    ops, key = torch.ops.vitdet_plugin, torch.zeros(2, 1, 4, dtype=torch.float64)
    checks = dict(test_utils=('test_schema', 'test_faketensor'))
    torch.library.opcheck(ops.mlstm_gates, (torch.randn(2, 4), torch.randn(2, 4), 2), **checks)
    torch.library.opcheck(ops.mlstm_weigh, (torch.randn(2, 3, 4), key, key, 1.0), **checks)
    torch.library.opcheck(ops.mlstm_weigh_backward,
                          (torch.randn(2, 3, 4), torch.randn(2, 3, 4), torch.randn(2, 3), key, key, 1.0), **checks)
    torch.library.opcheck(ops.mlstm_memories, (torch.randn(2, 3, 4).half(), torch.rand(2, 3), False, False), **checks)
