"""Tests of ViTDet alone: propagation, position embeddings, drop path, arguments."""

import pytest
import torch
from timm.layers import DropPath

from tests.backbones.registered import image, tiny
from vitdet_plugin.backbones.vitdet import ARCHS, PROPAGATIONS, ViTDet
from vitdet_plugin.errors import UserError

PLAIN = dict(global_block_indexes=(), shifted_block_indexes=(), residual_block_indexes=())


def vit(**kwargs):
    return tiny(ViTDet, **kwargs)


def block_kinds(model):
    return [(block.attn.window_size, block.attn.shift, block.residual is not None) for block in model.blocks]


WINDOWED = (4, 0, False)
EXPECTED_BLOCKS = {'none': WINDOWED, 'global': (0, 0, False), 'shifted': (4, 2, False), 'conv_naive': (4, 0, True),
                   'conv_basic': (4, 0, True), 'conv_bottleneck': (4, 0, True)}


@pytest.mark.parametrize('propagation', PROPAGATIONS)
def test_propagation_is_in_the_last_block_of_each_quarter(propagation):
    model = vit(**PLAIN, propagation=propagation, arch=dict(embed_dim=8, depth=8, num_heads=2))
    kinds = block_kinds(model)
    assert kinds[::2] == [WINDOWED] * 4
    assert kinds[1::2] == [EXPECTED_BLOCKS[propagation]] * 4


@pytest.mark.parametrize(('name', 'indexes'), [('base', [2, 5, 8, 11]), ('large', [5, 11, 17, 23]),
                                               ('huge', [7, 15, 23, 31])])
def test_published_sizes_have_the_papers_global_blocks(name, indexes):
    with torch.device('meta'):
        model = ViTDet(name)
    assert [i for i, (window, _, _) in enumerate(block_kinds(model)) if not window] == indexes
    assert model.blocks[0].attn.rel_pos_h.shape[0] == 27 and model.blocks[-1].attn.rel_pos_h.shape[0] == 127
    assert model.out_channels == (ARCHS[name]['embed_dim'],) and model.pos_embed.shape[1] == 197


@pytest.mark.parametrize('depth', [1, 2, 3])
def test_shallow_backbones_propagate_too(depth):
    model = vit(**PLAIN, propagation='global', arch=dict(embed_dim=8, depth=depth, num_heads=2))
    assert block_kinds(model)[-1] == (0, 0, False)


def test_propagation_reaches_beyond_the_window_and_the_variants_differ():
    outs = {}
    for propagation in PROPAGATIONS:
        model = vit(**PLAIN, propagation=propagation).eval()
        x = image(model, 8, 8, batch=1).requires_grad_()
        out = model(x)[0]
        outs[propagation] = out.detach()
        reached = torch.autograd.grad(out[0, :, 3, 3].square().sum(), x)[0][0].abs().amax(0)
        beyond_the_window = reached[4 * 16:].max().item() > 0
        assert beyond_the_window == (propagation != 'none'), propagation
    names = list(outs)
    for i, a in enumerate(names):
        for b in names[i + 1:]:
            assert (outs[a] - outs[b]).abs().max() > 1e-3, (a, b)


def test_indexes_mix_kinds_block_by_block():
    assert block_kinds(vit()) == [WINDOWED, (0, 0, False), (4, 2, False), (4, 0, True)]
    mixed = vit(**{**PLAIN, 'residual_block_indexes': [3]}, propagation='global', propagation_indexes=[0])
    assert block_kinds(mixed) == [(0, 0, False), WINDOWED, WINDOWED, (4, 0, True)]


@pytest.mark.parametrize('with_slot', [True, False])
def test_class_slot_of_the_position_embedding_is_not_used(with_slot):
    model = vit(pretrain_use_cls_token=with_slot).eval()
    assert model.pos_embed.shape == (1, 16 + with_slot, 32)
    x = image(model, 3, 5)
    grid = model.pos_embed[:, -16:].detach().clone()
    other = vit(pretrain_use_cls_token=not with_slot).eval()
    other.load_state_dict({k: v for k, v in model.state_dict().items() if k != 'pos_embed'}, strict=False)
    with torch.no_grad():
        other.pos_embed[:, -16:] = grid
        assert torch.equal(model(x)[0], other(x)[0])


def test_without_position_embeddings_all_positions_are_equal():
    model = vit(**PLAIN, use_abs_pos=False, use_rel_pos=False, propagation='global').eval()
    assert model.pos_embed is None and not any('pos' in name for name in model.state_dict())
    x = torch.ones(1, 3, 128, 128)
    with torch.no_grad():
        out = model(x)[0]
    torch.testing.assert_close(out, out[:, :, :1, :1].expand_as(out), atol=1e-4, rtol=1e-4)


def test_drop_path_rises_linearly():
    model = vit(drop_path_rate=0.3)
    rates = [block.drop_path.drop_prob if isinstance(block.drop_path, DropPath) else 0.0 for block in model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3])
    x = image(model)
    torch.manual_seed(0)
    assert any(not torch.equal(model(x)[0], model(x)[0]) for _ in range(5))


def test_qkv_bias_false():
    model = vit(qkv_bias=False)
    assert model.blocks[0].attn.qkv.bias is None
    assert model(image(model))[0].isfinite().all()


def test_frozen_stages_cover_embeddings_and_that_many_blocks():
    model = vit(frozen_stages=2)
    wanting = {name.split('.')[0] + '.' + name.split('.')[1] for name, p in model.named_parameters() if p.requires_grad}
    assert wanting == {'blocks.2', 'blocks.3'}
    only_stem = vit(frozen_stages=0)
    assert {name for name, p in only_stem.named_parameters() if not p.requires_grad} == {
        'pos_embed', 'patch_embed.proj.weight', 'patch_embed.proj.bias'}


CHANGES = {
    'load_state_dict': lambda model, new: model.load_state_dict({**model.state_dict(), 'pos_embed': new}),
    'assign': lambda model, new: model.load_state_dict({**model.state_dict(), 'pos_embed': new}, assign=True),
    'in place': lambda model, new: model.pos_embed.copy_(new),
    'through .data, as averaging hooks do': lambda model, new: model.pos_embed.data.copy_(new),
    'optimizer': lambda model, new: model.pos_embed.data.lerp_(new, 0.5),
}


@pytest.mark.parametrize('change', CHANGES)
@torch.no_grad()
def test_cached_position_embedding_follows_the_weights(change):
    model = vit().eval()
    x = image(model, 3, 5)
    before = model(x)[0]
    CHANGES[change](model, torch.randn_like(model.pos_embed))
    after = model(x)[0]
    assert not torch.equal(before, after)
    fresh = vit().eval()
    fresh.load_state_dict(model.state_dict())
    assert torch.equal(fresh(x)[0], after)


@torch.no_grad()
def test_cached_position_embedding_follows_size_and_dtype():
    model = vit().eval()
    small, large = image(model, 2, 3), image(model, 5, 4)
    first = model(small)[0]
    assert model(large)[0].shape[-2:] == (5, 4)
    assert torch.equal(model(small)[0], first)
    assert model.double()(small.double())[0].dtype == torch.float64
    torch.testing.assert_close(model.float()(small)[0], first)


@torch.no_grad()
def test_position_embedding_is_resized_once_in_eval_mode(monkeypatch):
    from vitdet_plugin.layers import pos_embed
    calls = []
    resize = pos_embed.resize_abs_pos
    monkeypatch.setattr(pos_embed, 'resize_abs_pos', lambda *a, **k: calls.append(1) or resize(*a, **k))
    model = vit().eval()
    for _ in range(3):
        model(image(model, 3, 5))
    assert len(calls) == 1


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(arch='tiny'), "arch='tiny' is unknown; choose one of base, large, huge or give a dict"),
    (dict(arch=['base']), r"arch=\['base'\] is unknown"),
    (dict(frozen_stages='2'), "frozen_stages='2' must be from -1"),
    (dict(arch=dict(embed_dim=8, depth=2)), 'arch requires the keys embed_dim, depth, num_heads'),
    (dict(arch=dict(embed_dim=10, depth=2, num_heads=3), **PLAIN), 'embed_dim=10 is not a multiple of num_heads=3'),
    (dict(propagation='conv'), "propagation='conv' is unknown; choose one of none, global, shifted, conv_naive"),
    (dict(global_block_indexes=[4]), r'global_block_indexes=\[4\] must be a list of numbers from 0 to 3'),
    (dict(propagation='global', propagation_indexes=[5]), r'propagation_indexes=\[5\] must be'),
    (dict(propagation_indexes=1), 'propagation_indexes=1 must be a list'), (dict(img_size=0), 'img_size=0 must be'),
    (dict(window_size=-1), 'window_size=-1 must be'), (dict(window_size=2.5), 'window_size=2.5 must be a whole number'),
    (dict(patch_size=16.0), 'patch_size=16.0 must be a whole number'), (dict(mlp_ratio=-1), 'mlp_ratio=-1 must be'),
    (dict(norm_eps='a'), "norm_eps='a' must be a number"), (dict(norm_eps=-1), 'norm_eps=-1 must be a number'),
    (dict(arch=dict(embed_dim=8, depth=0, num_heads=2)), 'depth=0 must be a whole number of at least 1'),
    (dict(shifted_block_indexes=[-1]), r'shifted_block_indexes=\[-1\] must be'),
    (dict(global_block_indexes=[2]), r'blocks \[2\] are both global and shifted'),
    (dict(residual_block='wide'), "residual_block='wide' is unknown"),
    (dict(attention='fast'), "rel_pos_attention: 'fast' is unknown"),
    (dict(frozen_stages=5), 'frozen_stages=5 must be from -1 to 4, the number of blocks'),
])
def test_invalid_arguments_are_one_line_errors(kwargs, message):
    with pytest.raises(UserError, match=message) as caught:
        vit(**kwargs)
    assert '\n' not in str(caught.value)


def test_an_input_size_not_divisible_by_the_patch_size_is_an_error():
    with pytest.raises(UserError, match=r'\(33, 48\) pixels is not a multiple of patch_size=16; set pad_size_divisor'):
        vit()(torch.zeros(1, 3, 33, 48))
