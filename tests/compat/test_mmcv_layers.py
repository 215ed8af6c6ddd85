"""mmcv's feed-forward network, self-attention and deformable attention: the same results as without the patches."""

import copy
import inspect

import pytest
import torch
from mmcv.cnn.bricks.transformer import FFN, MultiheadAttention
from mmcv.ops import MultiScaleDeformableAttention

from vitdet_plugin.compat import mmcv_layers
from vitdet_plugin.compat.ms_deform_attn import sampling_locations

SIZES = torch.tensor([[6, 5], [3, 2]])
PIXELS = 36


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('options', [{}, dict(add_identity=False), dict(layer_scale_init_value=0.5),
                                     dict(num_fcs=3, act_cfg=dict(type='GELU'))])
@pytest.mark.parametrize('shape', [(1300, 8), (2, 700, 8), (3, 8)])
def test_feed_forward(options, shape):
    ffn, x = FFN(8, 24, **options).eval(), torch.randn(shape)
    original, identity = inspect.unwrap(FFN.forward, stop=lambda f: not hasattr(f, '_vitdet_plugin_patches')), x + 1
    with torch.no_grad():
        torch.testing.assert_close(ffn(x), original(ffn, x))
        torch.testing.assert_close(ffn(x, identity), original(ffn, x, identity))
        torch.testing.assert_close(ffn(x, identity[..., :1]), original(ffn, x, identity[..., :1]))


def test_feed_forward_computes_512_tokens_at_a_time_at_inference_only():
    ffn, rows = FFN(8, 24), []
    ffn.layers[0].register_forward_hook(lambda module, inputs, out: rows.append(out.shape[:-1].numel()))
    x = torch.randn(2, 300, 8)
    ffn(x)
    ffn.eval()(x)
    with torch.no_grad():
        ffn(x)
        ffn.train()(x)
    assert rows == [600, 600, 512, 88, 600]


def test_stochastic_depth_of_whole_images():
    ffn = FFN(8, 24, dropout_layer=dict(type='DropPath', drop_prob=0.5)).train()
    x = torch.randn(16, 200, 8)
    with torch.no_grad():
        dropped = (ffn(x) == x).flatten(1).all(1)
    assert 0 < dropped.sum() < 16


@pytest.mark.parametrize('batch_first', [False, True])
@pytest.mark.parametrize('masked', [False, True])
def test_self_attention(batch_first, masked):
    ours = MultiheadAttention(16, 4, batch_first=batch_first)
    theirs = copy.deepcopy(ours)
    theirs.attn._forward_pre_hooks.clear()
    query, positions = torch.randn(5, 2, 16).unbind(1)
    query, positions = (x.unsqueeze(0 if batch_first else 1) for x in (query, positions))
    mask = torch.eye(5, dtype=torch.bool).roll(1, 0) if masked else None
    outs, grads = [], []
    for module in (ours, theirs):
        x = query.clone().requires_grad_()
        outs.append(module(x, query_pos=positions, attn_mask=mask))
        grads.append(torch.autograd.grad(outs[-1].square().sum(), [x, module.attn.in_proj_weight]))
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def test_attention_weights_are_computed_for_hooks_only():
    module, query = MultiheadAttention(16, 4), torch.randn(5, 2, 16)
    assert module.attn(query, query, query)[1] is None
    weights = []
    handle = module.attn.register_forward_hook(lambda module, inputs, out: weights.append(out[1]))
    module(query)
    handle.remove()
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 5))
    assert module.attn(query, query, query, need_weights=True)[1].shape == (2, 5, 5)


def test_install_twice_wraps_once():
    before = FFN.forward, MultiheadAttention.__init__
    mmcv_layers.install()
    assert (FFN.forward, MultiheadAttention.__init__) == before
    assert len(MultiheadAttention(16, 4).attn._forward_pre_hooks) == 1


@pytest.mark.parametrize('numbers', [2, 4])
@pytest.mark.parametrize('options', [{}, dict(batch_first=True), dict(padded=True), dict(positions=True)])
def test_deformable_attention_equals_mmcv(numbers, options):
    batch_first = options.get('batch_first', False)
    module = MultiScaleDeformableAttention(16, num_heads=2, num_levels=2, num_points=3, dropout=0.0,
                                           batch_first=batch_first).double()
    for layer in (module.sampling_offsets, module.attention_weights):
        torch.nn.init.normal_(layer.weight, std=0.3)
    query, value = (torch.randn(2, count, 16, dtype=torch.double) for count in (7, PIXELS))
    points = 0.2 + 0.6 * torch.rand(2, 7, 2, numbers, dtype=torch.double)
    more = dict(reference_points=points, spatial_shapes=SIZES, level_start_index=torch.tensor([0, 30]))
    if options.get('padded'):
        more['key_padding_mask'] = torch.arange(PIXELS).expand(2, -1) > torch.tensor([[30], [33]])
    if options.get('positions'):
        more.update(query_pos=torch.randn(7, 2, 16, dtype=torch.double), identity=torch.randn(7, 2, 16).double())
    original = MultiScaleDeformableAttention.forward.__wrapped__
    outs, grads = [], []
    for forward in (MultiScaleDeformableAttention.forward, original):
        inputs = [(x if batch_first else x.transpose(0, 1)).clone().requires_grad_() for x in (query, value)]
        outs.append(forward(module, inputs[0], value=inputs[1], **more))
        grads.append(torch.autograd.grad(outs[-1].square().sum(), [*inputs, *module.parameters()]))
    torch.testing.assert_close(*outs)
    torch.testing.assert_close(*grads)


def test_deformable_attention_of_maps_to_themselves_and_old_argument_names():
    module = MultiScaleDeformableAttention(16, num_heads=2, num_levels=2, num_points=3, dropout=0.0)
    query = torch.randn(PIXELS, 1, 16)
    more = dict(reference_points=torch.rand(1, PIXELS, 2, 2), spatial_shapes=SIZES)
    original = MultiScaleDeformableAttention.forward.__wrapped__
    torch.testing.assert_close(module(query, **more), original(module, query, **more))
    with pytest.warns(DeprecationWarning, match='residual'):
        out = module(query, residual=2 * query, **more)
    torch.testing.assert_close(out, original(module, query, identity=2 * query, **more))
    with pytest.raises(ValueError, match=r'the last dimension must be 2 \(points\) or 4 \(boxes\)'):
        module(query, reference_points=torch.rand(1, PIXELS, 2, 3), spatial_shapes=SIZES)


def test_locations_are_as_precise_as_the_reference_points():
    points, offsets = torch.rand(1, 4, 2, 2), torch.randn(1, 4, 2, 2 * 3 * 2).bfloat16()
    found = sampling_locations(offsets, points, SIZES, 3)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, sampling_locations(offsets.double(), points.double(), SIZES, 3).float())
