"""Multi-scale deformable attention in mmcv's module: eager, compiled, exported."""

import numpy as np
import pytest
import torch
from mmcv.ops import MultiScaleDeformableAttention
from mmcv.ops import multi_scale_deform_attn as mmcv_module

from tests.ops.test_ms_deform_attn import inputs
from vitdet_plugin.ops.ms_deform_attn import OPERATOR
from vitdet_plugin.ops.native import STATUS

compiled = pytest.mark.skipif(STATUS['cpu'] is not None, reason=f'no compiled operator: {STATUS["cpu"]}')
SIZES = [(6, 5), (3, 3)]


@compiled
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_opcheck(dtype):
    sizes, (value, locations, weights) = inputs(queries=3, dtype=dtype)
    torch.library.opcheck(torch.ops.vitdet_plugin.ms_deform_attn, (value, sizes, locations, weights))
    tensors = torch.randn(2, 3, 8, dtype=dtype), value.detach(), sizes, locations.detach(), weights.detach()
    torch.library.opcheck(torch.ops.vitdet_plugin.ms_deform_attn_backward, tensors)


class Encoder(torch.nn.Module):
    """mmcv's module on the tokens of two maps, as in an encoder layer; the sizes are constants or derived from them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.attention = MultiScaleDeformableAttention(16, 4, 2, 3, batch_first=True).eval()
        for parameter in self.attention.parameters():
            torch.nn.init.normal_(parameter, std=0.3)

    def forward(self, x):
        sizes = torch.tensor(SIZES)
        points = torch.linspace(0.1, 0.9, x.shape[1] * 4).view(1, x.shape[1], 2, 2).expand(len(x), -1, -1, -1)
        return self.attention(x, reference_points=points, spatial_shapes=sizes)


class TwoMaps(torch.nn.Module):
    """The operator with the sizes as a list, which every exporter takes as constants."""

    def forward(self, value, locations, weights):
        return mmcv_module.multi_scale_deformable_attn_pytorch(value, SIZES, locations, weights)


def tokens(batch=2):
    return torch.randn(batch, sum(h * w for h, w in SIZES), 16, generator=torch.Generator().manual_seed(3))


def backends_used(monkeypatch):
    names, choose = [], OPERATOR.choose
    monkeypatch.setattr(OPERATOR, 'choose', lambda *args: names.append(choose(*args).name) or choose(*args))
    return names


def test_the_module_of_mmcv_runs_the_operator(monkeypatch):
    module, x = Encoder(), tokens().requires_grad_()
    names = backends_used(monkeypatch)
    out = module(x)
    assert names == ['cpu' if STATUS['cpu'] is None else 'pytorch']
    found = [out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])]
    original = mmcv_module.multi_scale_deformable_attn_pytorch.__wrapped__
    monkeypatch.setattr(mmcv_module, 'multi_scale_deformable_attn_pytorch', original)
    out = module(x)
    expected = [out, *torch.autograd.grad(out.square().sum(), [x, *module.parameters()])]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@compiled
def test_the_module_compiles_without_a_graph_break():
    module, x, sizes = Encoder().attention, tokens().requires_grad_(), torch.tensor(SIZES)

    def run(x):
        return module(x, reference_points=x[:, :, :4].sigmoid().view(2, -1, 2, 2), spatial_shapes=sizes) * 2

    out, expected = torch.compile(run, fullgraph=True, backend='aot_eager')(x), run(x)
    torch.testing.assert_close(out, expected)
    grads = [torch.autograd.grad(each.square().sum(), x) for each in (out, expected)]
    torch.testing.assert_close(*grads, atol=1e-4, rtol=1e-4)


def operands():
    _, tensors = inputs(SIZES, dtype=torch.float32)
    return tuple(each.detach() for each in tensors)


def test_exported_programs_contain_no_custom_operator():
    program = torch.export.export(TwoMaps(), operands())
    assert not [node.target for node in program.graph.nodes if 'vitdet_plugin' in str(node.target)]
    torch.testing.assert_close(program.module()(*operands()), TwoMaps()(*operands()), atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore::DeprecationWarning')
def test_traces_contain_no_custom_operator():
    traced = torch.jit.trace(Encoder(), tokens(), check_trace=False)
    assert 'vitdet_plugin::' not in str(traced.inlined_graph)
    torch.testing.assert_close(traced(tokens(3)[:2]), Encoder()(tokens(3)[:2]), atol=1e-4, rtol=1e-4)


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize('dynamo', [True, False])
def test_onnx(tmp_path, dynamo):
    onnxruntime = pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed')
    pytest.importorskip('onnxscript', reason='onnxscript is not installed')
    names = ['value', 'locations', 'weights']
    torch.onnx.export(TwoMaps(), operands(), str(tmp_path / 'op.onnx'), dynamo=dynamo, opset_version=18,
                      input_names=names)
    session = onnxruntime.InferenceSession(str(tmp_path / 'op.onnx'), providers=['CPUExecutionProvider'])
    found = session.run(None, {name: each.numpy() for name, each in zip(names, operands())})[0]
    np.testing.assert_allclose(found, TwoMaps()(*operands()).numpy(), atol=1e-4, rtol=1e-4)
