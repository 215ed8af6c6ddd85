"""The operator under torch.compile, torch.export, ONNX export and ONNX Runtime."""

import numpy as np
import pytest
import torch

from ops_dcnv3 import DCNv3, dcnv3
from ops_dcnv3.native import STATUS, operator_arguments
from tests.ops_dcnv3.oracle import BACKENDS, call, geometry, random_inputs

compiled = pytest.mark.skipif('cpu' not in BACKENDS, reason=f'no compiled operator: {STATUS["cpu"]}')


@compiled
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_opcheck(dtype):
    geo = geometry(stride=(1, 2), group_channels=8)
    tensors = [t.requires_grad_() for t in random_inputs(geo, 2, (5, 6), dtype)]
    arguments = (*tensors, *operator_arguments(geo))
    torch.library.opcheck(torch.ops.vitdet_plugin.dcnv3, arguments)
    grad = torch.randn(2, 5, 3, 16, dtype=dtype)
    torch.library.opcheck(torch.ops.vitdet_plugin.dcnv3_backward, (grad, *(a.detach() if torch.is_tensor(a) else a
                                                                           for a in arguments)))


@pytest.mark.parametrize('backend', BACKENDS)
def test_compile_in_one_graph(backend):
    """One graph forward and backward; the aot_eager backend suffices to check that."""
    geo = geometry()
    compiled_op = torch.compile(lambda *t: call(dcnv3, t, geo, backend=backend) * 2, fullgraph=True,
                                backend='aot_eager')
    results = []
    for op in (compiled_op, lambda *t: call(dcnv3, t, geo) * 2):
        tensors = [t.requires_grad_() for t in random_inputs(geo, dtype=torch.float32)]
        out = op(*tensors)
        results.append([out, *torch.autograd.grad(out.square().sum(), tensors)])
    for ours, expected in zip(*results):
        torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-3)


def layer(backend):
    torch.manual_seed(0)
    module = DCNv3(16, group=2, center_feature_scale=True).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    module.backend = backend
    return module


@pytest.mark.parametrize('backend', BACKENDS)
def test_export_with_free_sizes(backend):
    module = layer(backend)
    sizes = {axis: torch.export.Dim(name, min=2, max=64) for axis, name in enumerate(['n', 'h', 'w'])}
    program = torch.export.export(module, (torch.randn(2, 6, 7, 16),), dynamic_shapes=(sizes,))
    names = {str(node.target) for node in program.graph.nodes}
    assert ('vitdet_plugin.dcnv3.default' in names) == (backend == 'cpu')
    x = torch.randn(3, 9, 8, 16)
    torch.testing.assert_close(program.module()(x), module(x), atol=1e-4, rtol=1e-4)


def test_exported_programs_contain_no_custom_operator_by_default():
    program = torch.export.export(layer(None), (torch.randn(2, 6, 7, 16),))
    assert not [node.target for node in program.graph.nodes if 'vitdet_plugin' in str(node.target)]


@pytest.mark.filterwarnings('ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning')
@pytest.mark.parametrize('dynamo', [True, False])
def test_onnx(tmp_path, dynamo):
    """With the default backend, the PyTorch form is exported."""
    onnxruntime = pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed')
    pytest.importorskip('onnxscript', reason='onnxscript is not installed')
    module, x = layer(None), torch.randn(2, 6, 7, 16)
    torch.onnx.export(module, (x,), str(tmp_path / 'layer.onnx'), dynamo=dynamo, opset_version=18,
                      input_names=['x'], **({} if dynamo else dict(dynamic_axes={'x': [0, 1, 2]})))
    session = onnxruntime.InferenceSession(str(tmp_path / 'layer.onnx'), providers=['CPUExecutionProvider'])
    for other in [x] if dynamo else [x, torch.randn(1, 9, 5, 16)]:
        found = session.run(None, {'x': other.numpy()})[0]
        np.testing.assert_allclose(found, module(other).detach().numpy(), atol=1e-4, rtol=1e-4)
