"""How many operations a block of ViTDet needs on a GPU with Triton's attention, in training with bfloat16."""

import pytest
import torch

from tests.operations import Operations
from vitdet_plugin.backbones.vitdet import Block
from vitdet_plugin.layers import attention
from vitdet_plugin.layers.attention import WindowAttention
from vitdet_plugin.ops.rel_pos_attention import triton


def block(window):
    torch.manual_seed(0)
    layer = WindowAttention(32, 2, window_size=window, rel_pos_size=window or 8)
    return Block(32, layer, mlp_ratio=4, drop_path=0.0, norm_eps=1e-6, residual_block=None)


@pytest.mark.parametrize(('window', 'forward', 'backward'), [(0, 30, 45), (4, 33, 50)], ids=['global', 'windows'])
def test_operations_of_a_block(window, forward, backward, monkeypatch):
    """Of these, 8 convert weights to bfloat16 and 8 their gradients to float32."""
    monkeypatch.setattr(attention, '_pads_first', lambda x: True)  # as on a GPU
    monkeypatch.setattr(WindowAttention, '_is_compiled', lambda self, qkv: False)
    monkeypatch.setattr(attention, 'rel_pos_attention', lambda *args: triton.rel_pos_attention_triton(*args[:-1]))
    imitated = dict(rel_pos_attention_triton=triton._outputs,
                    rel_pos_attention_triton_backward=lambda grad, *saved: [x.new_empty(x.shape) for x in saved[:5]])
    module, side = block(window), 10 if window else 8  # windows are padded, tables are not interpolated
    x = torch.randn(2, side, side, 32, requires_grad=True)
    with Operations(imitated) as operations, torch.autocast('cpu', torch.bfloat16):
        out = module(x)
    assert operations.counts['rel_pos_attention_triton'] == 1
    assert operations.total == forward, operations.counts
    direction = torch.ones_like(out)
    with Operations(imitated) as operations:
        out.backward(direction)
    assert operations.counts['rel_pos_attention_triton_backward'] == 1
    assert operations.total == backward, operations.counts
