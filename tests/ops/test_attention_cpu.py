"""The compiled attention kernel: against float64 and materialized attention, for any shape, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.test_rel_pos_attention import draw
from vitdet_plugin.ops.case import case_of
from vitdet_plugin.ops.dispatch import Case
from vitdet_plugin.ops.native import STATUS
from vitdet_plugin.ops.rel_pos_attention import OPERATOR, cpu, rel_pos_attention
from vitdet_plugin.ops.rel_pos_attention.chunked import chunked
from vitdet_plugin.ops.rel_pos_attention.cpu import CompiledAttention, attention_cpu
from vitdet_plugin.ops.rel_pos_attention.reference import dense

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operator: {STATUS["cpu"]}')
needs_bf16 = pytest.mark.skipif('bfloat16' not in cpu.FEATURES, reason='the kernel has no bfloat16 on this processor')
TYPES = [torch.float32, pytest.param(torch.bfloat16, marks=needs_bf16)]


def distance(ours, expected):
    """Relative error in the Euclidean norm."""
    return float((ours.double() - expected).norm() / expected.norm().clamp_min(1e-30))


def check(tensors, scale, dtype):
    """Compare with float64, and with the error of materialized attention in the same type."""
    tensors = [x.to(dtype) for x in tensors]
    wide = [x.double() for x in tensors]
    with torch.no_grad():
        ours, expected, materialized = (f(*x, scale) for f, x in ((attention_cpu, tensors), (dense, wide),
                                                                  (dense, tensors)))
    assert ours.dtype == dtype and ours.shape == tensors[0].shape
    if dtype == torch.float32:
        assert distance(ours, expected) < 3e-6
    else:
        assert distance(ours, expected) < max(4e-3, 1.1 * distance(materialized, expected))


@settings(max_examples=40)
@given(groups=st.integers(1, 3), heads=st.integers(1, 3), queries=st.integers(1, 110), height=st.integers(1, 23),
       width=st.integers(1, 37), dim=st.integers(1, 40), scale=st.sampled_from([0.2, 1.0, 0.0, -0.3]))
@pytest.mark.parametrize('dtype', TYPES)
def test_any_shape(dtype, groups, heads, queries, height, width, dim, scale):
    check(draw(groups, heads, queries, height, width, dim), scale, dtype)


@pytest.mark.parametrize('dtype', TYPES)
@pytest.mark.parametrize('dim', [32, 64, 80, 128])
def test_head_sizes_of_vision_transformers(dtype, dim):
    check(draw(4, 2, 196, 14, 14, dim), dim ** -0.5, dtype)
    check(draw(1, 1, 64, 32, 20, dim), dim ** -0.5, dtype)


@pytest.mark.parametrize('dtype', TYPES)
def test_without_bias_it_is_attention_of_pytorch(dtype):
    q, k, v = (x.to(dtype) for x in draw(2, 3, 65, 1, 65, 64)[:3])
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    with torch.no_grad(), CompiledAttention():
        ours = F.scaled_dot_product_attention(q, k, v)
        masked = F.scaled_dot_product_attention(q, k, v, torch.ones(65, 65, dtype=torch.bool).tril())
    assert distance(ours, expected) < (3e-6 if dtype == torch.float32 else 4e-3)
    assert ours.stride() != q.stride()  # that of the kernel
    assert distance(masked, F.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=True)) < 2e-2


@pytest.mark.parametrize('dtype', TYPES)
def test_strides_threads_and_empty_inputs(dtype):
    tensors = [x.to(dtype) for x in draw(3, 2, 100, 9, 30, 24)]
    expected = attention_cpu(*tensors, 0.3)
    joined = torch.cat([x.transpose(1, 2).flatten(2) for x in tensors[1:3]], 2)  # keys and values of a projection
    k, v = joined.unflatten(2, (2, 2, 24)).permute(2, 0, 3, 1, 4)
    q = tensors[0].transpose(2, 3).contiguous().transpose(2, 3)  # the last dimension is not contiguous
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert torch.equal(attention_cpu(q, k, v, *tensors[3:], 0.3), expected)
    finally:
        torch.set_num_threads(threads)
    for empty in (slice(0), (slice(None), slice(0)), (slice(None), slice(None), slice(0))):
        parts = [x[empty] if i in (0, 3, 4) or isinstance(empty, slice) or len(empty) < 3 else x
                 for i, x in enumerate(tensors)]
        assert attention_cpu(*parts, 0.3).shape == parts[0].shape


@pytest.mark.parametrize('dtype', TYPES)
def test_large_and_undefined_scores(dtype):
    tensors = [(x * 100).to(dtype) for x in draw(1, 2, 50, 8, 9, 16)]
    ours, expected = attention_cpu(*tensors, 1.0), dense(*(x.double() for x in tensors), 1.0)
    assert not ours.isnan().any() and distance(ours, expected) < 2e-2
    huge = [x.float().mul(1e14).to(dtype) if i < 2 else x for i, x in enumerate(tensors)]
    assert not attention_cpu(*huge, 1.0).isnan().any()
    tensors[0][0, 1, 3, 2] = float('nan')
    rows = attention_cpu(*tensors, 1.0).isnan().all(-1)
    assert rows.sum() == 1 and rows[0, 1, 3]


def test_exponential_over_its_whole_range():
    """One query, two keys: the probability of the second one is 1 / (1 + exp(score))."""
    scores = torch.linspace(-100, 100, 4001)
    k = torch.stack([scores, torch.zeros_like(scores)], -1)[None, :, :, None]  # a head for each score
    v = torch.tensor([0.0, 1.0])[None, None, :, None].expand_as(k)
    q = torch.ones(1, len(scores), 1, 1)
    ours = attention_cpu(q, k, v, None, None, 1.0).flatten()
    expected = torch.sigmoid(-scores.double())
    assert ((ours - expected).abs() / expected.clamp_min(1e-37)).where(expected > 1e-37, 0).max() < 2e-5
    assert ((ours - expected).abs() < 4e-7).all()


def test_the_choice_and_its_reasons(monkeypatch):
    bf16, f32 = (torch.zeros(1, 1, 4, 8, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    monkeypatch.setattr(cpu, 'FEATURES', ('avx512', 'float32', 'bfloat16'))
    assert OPERATOR.choose(case_of(bf16)).name == OPERATOR.choose(case_of(f32)).name == 'cpu'
    for case, reason in ((case_of(f32.double()), 'serves float32 and bfloat16, not float64'),
                         (Case('cpu', torch.float32, exporting=True), 'cannot be exported to ONNX')):
        assert OPERATOR.why_not(case)['cpu'] == reason and OPERATOR.choose(case).name != 'cpu'
    monkeypatch.setattr(cpu, 'FEATURES', ('avx2', 'float32'))  # as fast as before on a processor without bfloat16
    assert OPERATOR.choose(case_of(bf16)).name == 'chunked'
    assert OPERATOR.why_not(case_of(bf16))['cpu'] == 'bfloat16 requires a processor with AVX-512 BF16'
    monkeypatch.setattr(cpu, 'FEATURES', ('base',))
    assert OPERATOR.choose(case_of(f32)).name == 'chunked' and OPERATOR.choose(case_of(f32), 'cpu').name == 'cpu'


def test_wrong_shapes_are_refused():
    q, k, v, rel_h, rel_w = (x.float() for x in draw(1, 2, 6, 2, 3, 4))
    for args in ((q, k[..., :3], v, rel_h, rel_w), (q, k, v, rel_h, rel_w[..., :2]), (q, k, v[:, :, :5], rel_h, rel_w),
                 (q, k, v, rel_h[:, :, :3], rel_w), (q, k, v, rel_h, None), (q, k[:, :, :0], v[:, :, :0], None, None)):
        with pytest.raises(ValueError):
            attention_cpu(*args, 0.4)
    with pytest.raises((NotImplementedError, RuntimeError), match='not supported|float16|Half'):
        attention_cpu(q.half(), k, v, rel_h, rel_w, 0.4)


@pytest.mark.filterwarnings('ignore')
def test_registered_for_tracing():
    tensors = [x.float() for x in draw(2, 2, 6, 2, 3, 4)]
    utilities = ('test_schema', 'test_faketensor', 'test_aot_dispatch_dynamic')
    torch.library.opcheck(torch.ops.vitdet_plugin.attention, (*tensors, 0.4), test_utils=utilities)
    qkv, table = torch.randn(1, 5, 6, 24), torch.randn(7, 4)
    torch.library.opcheck(torch.ops.vitdet_plugin.window_attention, (qkv, None, table, table, 2, 4, 2, 0.4),
                          test_utils=utilities)
    with torch.no_grad():
        compiled = torch.compile(lambda *x: rel_pos_attention(*x, 0.4), backend='eager', fullgraph=True)
        assert torch.equal(compiled(*tensors), attention_cpu(*tensors, 0.4))
    torch.testing.assert_close(chunked(*tensors, 0.4), attention_cpu(*tensors, 0.4))


@pytest.mark.parametrize('variable, value', [('OPS_DCNV3_ISA', 'base'), ('OPS_DCNV3_ISA', 'avx2'),
                                             ('VITDET_ATTENTION_ONEDNN', '1')])
def test_other_instruction_sets(variable, value):
    code = ('import torch\n'
            'from tests.ops.test_attention_cpu import check, cpu, draw\n'
            'from tests.ops.test_attention_cpu_backward import check_gradients\n'
            'dtypes = [torch.float32] + [torch.bfloat16] * ("bfloat16" in cpu.FEATURES)\n'
            'for shape in ((2, 2, 70, 14, 14, 40), (1, 1, 13, 3, 25, 7), (1, 2, 300, 20, 30, 64)):\n'
            '    for dtype in dtypes:\n'
            '        check(draw(*shape), 0.2, dtype)\n'
            '        check_gradients(draw(*shape), 0.2, dtype)\n'
            'print(*cpu.FEATURES)')
    done = subprocess.run([sys.executable, '-c', code], env={**os.environ, variable: value}, capture_output=True,
                          text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    features = done.stdout.split()
    if variable == 'OPS_DCNV3_ISA':
        assert 'bfloat16' not in features and features[0] in ('base', value)
    else:  # the products of processors with AMX; oneDNN computes them on this one without
        assert 'bfloat16' not in cpu.FEATURES or features[-2:] == ['bfloat16', 'onednn']
