"""Operators that this package translates to ONNX itself."""

import numpy as np
import pytest
import torch
from torch import nn

from vitdet_plugin.export.onnx import quiet
from vitdet_plugin.export.translations import onnx_translations

onnx = pytest.importorskip('onnx', reason='the extra "onnx" is not installed')
runtime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')


@pytest.mark.parametrize('approximate', ['none', 'tanh'])
def test_gelu_equals_that_of_torch_and_is_fused(tmp_path, approximate):
    x, module = torch.linspace(-6, 6, 99).view(1, 99), nn.Sequential(nn.Linear(99, 4), nn.GELU(approximate)).eval()
    with quiet(), torch.no_grad():
        torch.onnx.export(module, (x,), str(tmp_path / 'a.onnx'), dynamo=True, input_names=['x'], opset_version=18,
                          custom_translation_table=onnx_translations(), verbose=False)
        expected = module(x).numpy()
    options = runtime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / 'b.onnx'), 3
    session = runtime.InferenceSession(str(tmp_path / 'a.onnx'), options, providers=['CPUExecutionProvider'])
    np.testing.assert_allclose(session.run(None, dict(x=x.numpy()))[0], expected, atol=1e-6)
    kinds = {node.op_type for node in onnx.load(str(tmp_path / 'b.onnx')).graph.node}
    assert {node.domain for node in onnx.load(str(tmp_path / 'a.onnx')).graph.node} == {''}
    assert ('Gelu' in kinds) == (approximate == 'none')  # the approximation is fused on GPUs only
