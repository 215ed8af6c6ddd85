"""Tests of InternImage alone: sizes, positions of norms, freezing, initialization, layer ids."""

import pytest
import torch
from torch import nn

from ops_dcnv3 import DCNv3
from tests.backbones.registered import disturb
from vitdet_plugin.backbones.internimage import ARCHS, InternImage
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.internimage_cls_head import InternImageClipHead, InternImageClsHead

SMALL = dict(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8))
# parameters of the official classifier and of the backbone in it; entries of the official state dict
OFFICIAL = {
    'tiny': (29_918_424, 28_754_672, 633), 'small': (50_079_880, 48_502_560, 751),
    'base': (97_461_832, 94_909_920, 751), 'large': (223_334_810, 218_952_370, 839),
    'xlarge': (334_819_780, 328_971_228, 883), 'huge': (1_089_636_760, 1_073_122_480, 1357),
    'giant': (3_076_373_352, 3_052_781_184, 1295)}


def small(seed=0, **options) -> InternImage:
    torch.manual_seed(seed)
    return InternImage(**{'arch': SMALL, **options})


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize('arch', ARCHS)
def test_official_sizes(arch):
    with torch.device('meta'):
        backbone = InternImage(arch)
        width = backbone.out_channels
        head = (InternImageClipHead(1000, width[2:]) if arch in ('huge', 'giant')
                else InternImageClsHead(1000, width[3]))
    whole, alone, entries = OFFICIAL[arch]
    assert (count(backbone) + count(head), count(backbone)) == (whole, alone)
    assert len(backbone.state_dict()) + len(head.state_dict()) == entries
    assert all(p.is_meta for p in backbone.parameters())


def test_sizes_have_letters_as_aliases():
    with torch.device('meta'):
        assert InternImage('T').depths == InternImage('tiny').depths == (4, 4, 18, 4)
        assert count(InternImage('XL')) == count(InternImage('xlarge'))


@pytest.mark.parametrize(('options', 'formula'), [
    (dict(layer_scale=0.5, post_norm=True), lambda x, f, norm, behind, g: x + g * norm(f(x))),
    (dict(layer_scale=0.5), lambda x, f, norm, behind, g: x + g * f(norm(x))),
    (dict(layer_scale=0.5, res_post_norm=True), lambda x, f, norm, behind, g: x + g * f(norm(x))),
    (dict(post_norm=True), lambda x, f, norm, behind, g: x + norm(f(x))),
    (dict(post_norm=True, res_post_norm=True), lambda x, f, norm, behind, g: x + norm(f(x))),
    (dict(res_post_norm=True), lambda x, f, norm, behind, g: x + behind(f(norm(x)))),
    (dict(), lambda x, f, norm, behind, g: x + f(norm(x))),
])
def test_positions_of_the_norms(options, formula):
    layer = disturb(small(**options)).levels[1].blocks[0].eval()
    assert (layer.res_post_norm1 is not None) == options.get('res_post_norm', False)  # as in the official state dicts
    x = torch.randn(1, 5, 6, 32)
    with torch.no_grad():
        y = formula(x, layer.dcn, layer.norm1, layer.res_post_norm1, layer.gamma1)
        y = formula(y, layer.mlp, layer.norm2, layer.res_post_norm2, layer.gamma2)
        torch.testing.assert_close(layer(x), y)
    layer(x).sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in layer.parameters())


@pytest.mark.parametrize(('options', 'has_norm'), [
    (dict(), True), (dict(post_norm=True), False), (dict(post_norm=True, center_feature_scale=True), True)])
def test_norm_at_the_end_of_a_level(options, has_norm):
    assert [level.norm is not None for level in small(**options).levels] == [has_norm] * 4


def test_blocks_of_level_2_can_have_an_additional_norm():
    model = disturb(small(level2_post_norm_block_ids=(1,))).eval()
    level, x = model.levels[2], torch.randn(1, 4, 4, 64)
    assert [len(level.post_norms) for level in model.levels] == [0, 0, 1, 0]
    with torch.no_grad():
        expected = level.norm(level.post_norms[0](level.blocks[1](level.blocks[0](x))))
        torch.testing.assert_close(level(x, model.checkpointed), expected)


def test_starts_as_a_plain_grid_of_taps_also_after_init_weights():
    model = disturb(small(center_feature_scale=True, layer_scale=0.1))
    model.init_weights()
    layers = [module for module in model.modules() if isinstance(module, DCNv3)]
    assert len(layers) == 5
    for layer in layers:
        assert not any(p.any() for part in (layer.offset, layer.mask) for p in part.parameters())
        assert not layer.center_feature_scale_proj_weight.any()
        assert layer.input_proj.weight.any() and layer.dw_conv[0].weight.any()
    assert all((p == 0.1).all() for name, p in model.named_parameters() if 'gamma' in name)
    assert model.levels[0].blocks[0].mlp.fc1.weight.std().item() == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(('stages', 'frozen'), [
    (0, ('patch_embed.',)), (2, ('patch_embed.', 'levels.0.', 'levels.1.'))])
def test_freezing_includes_the_stem(stages, frozen):
    model = small(frozen_stages=stages)
    for name, p in model.named_parameters():
        assert p.requires_grad != name.startswith(frozen), name


def test_unused_levels_keep_their_weights_without_gradients():
    whole, part = disturb(small()).eval(), small(out_indices=(0, 2)).eval()
    part.load_state_dict(whole.state_dict())
    x = torch.randn(1, 3, 64, 96)
    outs = part(x)
    torch.testing.assert_close(outs, whole(x)[0:3:2])
    assert (part.out_channels, part.out_strides) == ((16, 64), (4, 16))
    sum(out.sum() for out in outs).backward()
    assert all((p.grad is not None) == p.requires_grad for p in part.parameters())
    assert not part.levels[2].downsample.conv.weight.requires_grad and part.levels[1].norm.weight.requires_grad


def test_maps_are_channels_last_and_any_size_is_taken():
    outs = small()(torch.randn(2, 3, 70, 50))
    assert [out.shape[2:] for out in outs] == [(18, 13), (9, 7), (5, 4), (3, 2)]
    assert all(out.is_contiguous(memory_format=torch.channels_last) for out in outs)


def test_layer_ids():
    model = small(level2_post_norm_block_ids=(1,))
    ids = {name.rsplit('.', 1)[0]: model.get_layer_id(name) for name, _ in model.named_parameters()}
    assert ids['patch_embed.norm2'] == 0 and ids['levels.0.blocks.0.dcn.offset'] == 1
    assert ids['levels.0.norm'] == ids['levels.0.downsample.conv'] == ids['levels.1.blocks.0.norm1'] == 2
    assert ids['levels.2.blocks.1.mlp.fc1'] == ids['levels.2.post_norms.0'] == 4  # with the block that it follows
    assert ids['levels.3.blocks.0.norm1'] == 5 and ids['levels.3.norm'] == model.num_layers + 1 == 6


@pytest.mark.parametrize('kind', ['linear', 'uniform'])
def test_drop_path_rates(kind):
    model = small(drop_path_rate=0.4, drop_path_type=kind)
    rates = [getattr(block.drop_path, 'drop_prob', 0.0) for level in model.levels for block in level.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3, 0.4] if kind == 'linear' else [0.4] * 5)


def test_batch_norm_and_other_activations():
    model = disturb(small(norm_layer='BN', act_layer='SiLU', drop_rate=0.1)).train()
    x = torch.randn(2, 3, 64, 64)
    sum(out.square().mean() for out in model(x)).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.patch_embed.norm1.running_mean.any()
    assert torch.equal(model.eval()(x)[3], model(x)[3])


def test_resize_weight_drops_the_center_of_a_full_kernel():
    model = small(remove_center=True)
    dcn = 'levels.1.blocks.0.dcn.'
    own = dict(model.named_parameters())
    mask = torch.arange(18.0)  # two groups of nine taps
    fitted = model.resize_weight(f'{dcn}mask.bias', mask, own[f'{dcn}mask.bias'])
    assert fitted.tolist() == [*range(4), *range(5, 13), *range(14, 18)]
    offset = torch.arange(36.0)[:, None].expand(36, 32)
    fitted = model.resize_weight(f'{dcn}offset.weight', offset, own[f'{dcn}offset.weight'])
    assert fitted[:, 0].tolist() == [*range(8), *range(10, 26), *range(28, 36)]
    assert model.resize_weight('levels.1.norm.weight', mask, own['levels.1.norm.weight']) is None


@pytest.mark.parametrize('compiled', [False, True])
def test_recomputed_blocks_count_a_batch_once(compiled):
    x, results = torch.randn(2, 3, 64, 64) + 1, []
    for with_cp in (False, True):
        torch.manual_seed(0)
        model = small(norm_layer='BN', with_cp=with_cp).train()
        run = torch.compile(model, backend='aot_eager', fullgraph=True) if compiled and with_cp else model
        loss = sum(out.square().sum() for out in run(x))
        loss.backward(retain_graph=not compiled)
        if not compiled:
            loss.backward()  # recomputes once more
        state = model.state_dict()
        assert all(value == 1 for name, value in state.items() if 'num_batches' in name)
        results.append({**state, **{f'{name}.grad': p.grad for name, p in model.named_parameters()}})
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize(('options', 'word'), [
    (dict(arch='medium'), 'medium'), (dict(arch=dict(channels=16)), 'depths'), (dict(out_indices=(4,)), 'out_indices'),
    (dict(out_indices=(3, 1)), 'must be ascending'), (dict(out_indices=(1, 1)), 'must be ascending'),
    (dict(out_indices=()), 'out_indices'), (dict(frozen_stages=5), 'frozen_stages'), (dict(norm_layer='GN'), 'GN'),
    (dict(level2_post_norm_block_ids=(2,)), 'level2'), (dict(act_layer='Tanh'), 'Tanh'),
    (dict(drop_path_type='cosine'), 'cosine'), (dict(arch={**SMALL, 'groups': (3, 2, 4, 8)}), 'groups'),
    (dict(arch={**SMALL, 'depth': 1}), 'depth'),
    (dict(arch={**SMALL, 'depths': (1, 1, 1)}), r'arch.depths=\(1, 1, 1\) must be a list of 4 whole numbers'),
    (dict(dw_kernel_size=2), 'dw_kernel_size=2 must be an odd number'), (dict(drop_rate=2), 'drop_rate=2 must be'),
    (dict(level2_post_norm_block_ids=3), 'level2_post_norm_block_ids=3 must be a list of numbers'),
    (dict(level2_post_norm_block_ids=[0, 0]), 'has a block twice'),
    (dict(arch={**SMALL, 'groups': (0, 2, 4, 8)}), r'arch.groups=\(0, 2, 4, 8\) must be'),
    (dict(layer_scale='a'), "layer_scale='a' must be a number of at least 0"),
    (dict(offset_scale=0), 'offset_scale=0 must be a number above 0')])
def test_invalid_arguments_are_reported(options, word):
    with pytest.raises(UserError, match=word):
        small(**options)


@pytest.mark.filterwarnings('ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning')
def test_onnx_runtime_agrees_on_other_sizes_too(tmp_path):
    runtime = pytest.importorskip('onnxruntime', reason='ONNX Runtime is not installed')
    pytest.importorskip('onnxscript', reason='onnxscript is not installed')
    model, path = disturb(small(post_norm=True, layer_scale=0.5, offset_scale=2.0)).eval(), tmp_path / 'model.onnx'
    names = [f'map{stride}' for stride in model.out_strides]
    torch.onnx.export(model, (torch.randn(1, 3, 64, 96),), str(path), dynamo=False, opset_version=18,
                      input_names=['image'], output_names=names,
                      dynamic_axes={name: {0: 'batch', 2: 'height', 3: 'width'} for name in ['image', *names]})
    session = runtime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    for shape in ((1, 3, 64, 96), (2, 3, 96, 70)):
        x = torch.randn(shape)
        with torch.no_grad():
            expected = model(x)
        for out, reference in zip(session.run(None, {'image': x.numpy()}), expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(out), reference, atol=1e-4, rtol=1e-4)
