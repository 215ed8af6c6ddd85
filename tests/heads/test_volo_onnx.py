"""A VOLO classifier as an ONNX file: ONNX Runtime computes the same, for any batch size."""

import pytest
import torch
from torch import nn

from tests.backbones.registered import disturb
from vitdet_plugin.backbones.volo import VOLO
from vitdet_plugin.heads.volo_cls_head import VOLOClsHead


def test_onnx_runtime_agrees(tmp_path):
    runtime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    torch.manual_seed(0)
    arch = dict(layers=(1, 1), embed_dims=(8, 16), num_heads=(2, 2), mlp_ratios=(2, 2), stem_hidden_dim=4)
    model = nn.Sequential(VOLO(arch, img_size=32, downsamples=(True, False), outlook_attention=(True, False)),
                          VOLOClsHead(5, 16, 2, depth=1, dense=True))
    disturb(model).eval()
    path = tmp_path / 'volo.onnx'
    image = torch.randn(2, 3, 40, 48)  # padded to 48 x 48, positions resized
    torch.onnx.export(model, (image,), str(path), dynamo=True, verbose=False, input_names=['image'],
                      dynamic_shapes=({0: torch.export.Dim('batch')},))
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for batch in (2, 3):
        x = torch.randn(batch, 3, 40, 48)
        with torch.no_grad():
            expected = model(x)
        torch.testing.assert_close(torch.from_numpy(session.run(None, {'image': x.numpy()})[0]), expected,
                                   atol=1e-4, rtol=1e-4)
