"""Tests of ConvNeXt alone: published sizes, equality with timm, omitted stages, layer ids."""

import pytest
import timm
import torch
from timm.layers import DropPath

from tests.backbones.registered import disturb, image, tiny
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.backbones.convnext import ARCHS, ConvNeXtBackbone
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.cls_head import LayerNormClsHead

# millions of parameters of the published classifiers, 1,000 classes
PUBLISHED = {
    'tiny': 28.59, 'small': 50.22, 'base': 88.59, 'large': 197.77, 'xlarge': 350.20, 'v2_atto': 3.71, 'v2_femto': 5.23,
    'v2_pico': 9.07, 'v2_nano': 15.6, 'v2_tiny': 28.6, 'v2_base': 88.7, 'v2_large': 198.0, 'v2_huge': 660.0}
TIMM_NAMES = {'tiny': 'convnext_tiny', 'small': 'convnext_small', 'v2_atto': 'convnextv2_atto'}


def millions(*modules):
    return sum(p.numel() for module in modules for p in module.parameters()) / 1e6


@pytest.mark.parametrize('arch', ARCHS)
def test_published_sizes(arch):
    with torch.device('meta'):
        backbone = ConvNeXtBackbone(arch, out_indices=(3,), out_norms=False)
        head = LayerNormClsHead(1000, backbone.out_channels[-1])
    assert millions(backbone, head) == pytest.approx(PUBLISHED[arch], rel=3e-3)
    if arch in ('tiny', 'small', 'base'):
        assert millions(backbone) == pytest.approx({'tiny': 27.82, 'small': 49.45, 'base': 87.56}[arch], abs=0.006)


@pytest.mark.parametrize('arch', TIMM_NAMES)
def test_equals_timm(arch, tmp_path):
    """Features of all four stages and logits, from timm's own weights."""
    depths = (1, 1, 2, 1)
    model = disturb(timm.create_model(TIMM_NAMES[arch], depths=depths, num_classes=10)).eval()
    sizes = dict(ARCHS[arch], depths=depths)
    backbone = ConvNeXtBackbone(sizes, out_norms=False).eval()
    head = LayerNormClsHead(10, backbone.out_channels[-1]).eval()
    torch.save(model.state_dict(), tmp_path / 'timm.pth')
    classifier = torch.nn.ModuleDict(dict(backbone=backbone, head=head))
    report = load_official(classifier, tmp_path / 'timm.pth', allow_missing=False)
    assert report.recognized_as == 'ConvNeXt, timm' and not report.dropped
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        outs = backbone(x)
        stages = model.forward_intermediates(x, intermediates_only=True)[-4:]  # older versions of timm add the stem
        for ours, theirs in zip(outs, stages, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(head(outs), model(x), atol=1e-4, rtol=1e-4)


def test_stages_after_the_last_map_are_not_built():
    model = tiny(ConvNeXtBackbone, out_indices=(0, 2))
    assert len(model.stages) == 3 and model.out_channels == (8, 24) and model.out_strides == (4, 16)
    assert [name for name, _ in model.named_children()] == ['stem', 'stages', 'norm0', 'norm2']
    outs = model(torch.randn(1, 3, 16, 32))  # 32 does not have to divide the input
    sum(out.square().sum() for out in outs).backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.num_layers == max(model.get_layer_id(n) for n, _ in model.stages.named_parameters(prefix='stages'))


def test_maps_are_normalized_over_their_channels():
    model = ConvNeXtBackbone(**small_cfg(ConvNeXtBackbone))
    for out in model(image(model)):
        torch.testing.assert_close(out.mean(1), torch.zeros_like(out.mean(1)), atol=1e-4, rtol=0)
    bare = ConvNeXtBackbone(**small_cfg(ConvNeXtBackbone), out_norms=False)
    assert not any(name.startswith('norm') for name, _ in bare.named_children())


@pytest.mark.parametrize(('arch', 'expected'), [('v2_atto', (False, True)), ('tiny', (True, False))])
def test_layer_scale_or_grn(arch, expected):
    with torch.device('meta'):
        names = [name for name, _ in ConvNeXtBackbone(arch).named_parameters()]
    assert (any(n.endswith('.gamma') for n in names), any('.grn.' in n for n in names)) == expected


def test_grn_starts_as_the_identity_and_gamma_small():
    model = ConvNeXtBackbone(dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), use_grn=True))
    assert not model.stages[0].blocks[0].mlp.grn.weight.any()
    model = ConvNeXtBackbone(dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)))
    assert (model.stages[3].blocks[0].gamma == 1e-6).all()


@pytest.mark.parametrize(('arch', 'layers'), [('tiny', 6), ('base', 12)])
def test_layer_ids_of_the_official_fine_tuning(arch, layers):
    with torch.device('meta'):
        model = ConvNeXtBackbone(arch)
    assert model.num_layers == layers
    ids = {name.rsplit('.', 1)[0]: model.get_layer_id(name) for name, _ in model.named_parameters()}
    assert (ids['stem.0'], ids['stages.0.blocks.2.norm'], ids['stages.1.downsample.1']) == (0, 1, 2)
    assert [ids[f'stages.2.blocks.{i}.conv_dw'] for i in (0, 2, 3, 8)] == [3, 3, 4, 5]
    assert ids['stages.2.downsample.0'] == 3 and ids['stages.3.downsample.0'] == ids['stages.3.blocks.0'] == layers
    assert ids['norm0'] == ids['norm3'] == layers + 1


def test_drop_path_rises_over_all_stages():
    model = tiny(ConvNeXtBackbone, drop_path_rate=0.6)
    rates = [m.drop_prob for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


@pytest.mark.parametrize(('kwargs', 'message'), [
    (dict(arch='nano'), "arch='nano' is unknown; choose one of tiny"),
    (dict(arch=dict(depths=(1, 1, 1), dims=(8, 8, 8))), r'arch.depths=\(1, 1, 1\) must be a list of 4 whole numbers'),
    (dict(arch=dict(depths=(1, 1, 1, 1), dims=(8, 0, 8, 8))), r'arch.dims=\(8, 0, 8, 8\) must be a list of 4 whole'),
    (dict(layer_scale_init_value='a'), "layer_scale_init_value='a' must be a number of at least 0"),
    (dict(out_indices=(2, 1)), r'out_indices=\(2, 1\) must be ascending'),
    (dict(out_indices=(1, 4)), 'must be ascending numbers from 0 to 3'),
    (dict(out_indices=3), 'out_indices=3 must be ascending numbers'),
    (dict(out_indices=()), 'must be ascending numbers from 0 to 3'),
    (dict(frozen_stages=5), 'frozen_stages=5 must be from -1 to 4'),
])
def test_invalid_arguments_are_one_line_errors(kwargs, message):
    with pytest.raises(UserError, match=message) as caught:
        ConvNeXtBackbone(**{**small_cfg(ConvNeXtBackbone), **kwargs})
    assert '\n' not in str(caught.value)


def test_an_input_size_not_divisible_by_the_stride_is_an_error():
    with pytest.raises(UserError, match=r'\(48, 64\) pixels is not a multiple of 32; set pad_size_divisor=32'):
        tiny(ConvNeXtBackbone)(torch.zeros(1, 3, 48, 64))
