import inspect

import torch
from mmdet.models.layers import DinoTransformerDecoder

from vitdet_plugin.compat import dino_decoder


def decoder(width: int = 32) -> DinoTransformerDecoder:
    layer = dict(self_attn_cfg=dict(embed_dims=width, num_heads=8), cross_attn_cfg=dict(embed_dims=width, num_levels=1),
                 ffn_cfg=dict(embed_dims=width, feedforward_channels=8))
    return DinoTransformerDecoder(num_layers=1, layer_cfg=layer, post_norm_cfg=None, return_intermediate=False).eval()


def test_a_box_is_encoded_by_twice_the_width():
    model = decoder()
    first = model.ref_point_head.layers[0]
    assert (first.in_features, first.out_features) == (64, 32)
    seen = []
    first.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    boxes = torch.tensor([[[0.1, 0.2, 0.3, 0.4]]])
    model(torch.zeros(1, 1, 32), torch.zeros(1, 4, 32), None, None, boxes, torch.tensor([[2, 2]]), torch.tensor([0]),
          torch.ones(1, 1, 2), None)
    waves = 2 * torch.pi * torch.tensor([0.2, 0.1, 0.3, 0.4])[:, None] / 10000 ** (2 * torch.arange(8) / 16)
    expected = torch.stack([waves.sin(), waves.cos()], -1).flatten()
    torch.testing.assert_close(seen[0].flatten(), expected)


def test_install_twice_wraps_once():
    before = DinoTransformerDecoder.forward, DinoTransformerDecoder._init_layers
    dino_decoder.install()
    assert (DinoTransformerDecoder.forward, DinoTransformerDecoder._init_layers) == before
    assert list(inspect.signature(DinoTransformerDecoder.forward).parameters)[:3] == ['self', 'query', 'value']
