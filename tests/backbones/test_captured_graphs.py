"""Every registered backbone compiled, traced and exported: equal to eager mode at every size, without graph breaks."""

import io
import logging
import warnings

import pytest
import torch
from torch import nn

from tests.backbones.registered import BACKBONES, disturb, image, tiny
from vitdet_plugin.backbones.internimage import InternImage
from vitdet_plugin.backbones.vision_lstm import VisionLSTM
from vitdet_plugin.backbones.vitdet import ViTDet
from vitdet_plugin.errors import UserError
from vitdet_plugin.necks.simple_feature_pyramid import SimpleFeaturePyramid

# Compilation takes seconds for each block, so there are fewer of them than elsewhere.
TINIEST = {
    'CBNet': dict(backbone=dict(type='ConvNeXtBackbone', arch=dict(depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)))),
    'ConvNeXtBackbone': dict(arch=dict(depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), use_grn=True), out_indices=(0, 1)),
    'InternImage': dict(arch=dict(channels=16, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8)), out_indices=(0, 1),
                        level2_post_norm_block_ids=()),
    # padded windows and global attention
    'ViTDet': dict(arch=dict(embed_dim=16, depth=2, num_heads=2), global_block_indexes=[1], shifted_block_indexes=[],
                   residual_block_indexes=[]),
    'VisionLSTM': dict(arch=dict(dim=16, depth=2)),
    'VOLO': dict(arch=dict(layers=(1, 1, 0, 0), embed_dims=(16, 16, 16, 16), num_heads=(2, 2, 2, 2),
                           mlp_ratios=(2, 2, 2, 2), stem_hidden_dim=4), extra_level='pool'),
}
SIZES = ((3, 4), (9, 8), (5, 2))  # Vision-LSTM has another form above 64 tokens
every_backbone = pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)


@pytest.fixture(autouse=True)
def reset_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    logging.getLogger('torch.__trace').setLevel(logging.CRITICAL)  # pytest would format every guard
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', torch.jit.TracerWarning)
        yield
    torch._dynamo.reset()


def build(cls, **overrides):
    return tiny(cls, **{**TINIEST.get(cls.__name__, {}), 'drop_path_rate': 0.0, **overrides})


def assert_close(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@every_backbone
@torch.no_grad()
def test_compiled_inference_at_changing_sizes_without_graph_breaks(cls):
    model = build(cls).eval()
    compiled = torch.compile(model, backend='eager')
    for size in (*SIZES, (2, 7), (7, 7)):
        assert_close(compiled(image(model, *size)), model(image(model, *size)))
    counters = torch._dynamo.utils.counters
    assert not counters['graph_break'] and counters['stats']['unique_graphs'] <= 4  # one window: another graph


@torch.no_grad()
def test_compiled_with_symbols_for_the_offset_scale():
    model = build(InternImage).eval()
    compiled = torch.compile(model, backend='eager', dynamic=True)  # numbers of modules are symbols, too
    for size in SIZES[:2]:
        assert_close(compiled(image(model, *size)), model(image(model, *size)))
    counters = torch._dynamo.utils.counters
    assert not counters['graph_break'] and counters['stats']['unique_graphs'] == 1


@every_backbone
@torch.no_grad()
def test_traced_saved_and_loaded(cls):
    model = build(cls).eval()
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(model, image(model, 9, 8)), file)
    assert b'vitdet_plugin::' not in file.getvalue()
    file.seek(0)
    loaded = torch.jit.load(file)
    for size, batch in zip(((9, 8), *SIZES), (2, 1, 2, 3)):
        x = image(model, *size, batch=batch)
        assert_close(loaded(x), model(x))
    if model.size_divisor > 1:
        with pytest.raises(RuntimeError):
            loaded(image(model, 2, 2)[..., 1:])


@every_backbone
@torch.no_grad()
def test_exported_with_dynamic_batch_height_and_width(cls):
    model = build(cls).eval()
    stride = max(model.size_divisor, model.out_strides[-1])
    batch, rows, columns = (torch.export.Dim(name, min=1, max=64) for name in ('batch', 'rows', 'columns'))
    program = torch.export.export(model, (image(model, 3, 4),), strict=False, dynamic_shapes=(
        {0: batch, 2: stride * rows, 3: stride * columns},))
    assert not any('vitdet_plugin' in str(node.target) for node in program.graph.nodes)
    module = program.module()
    for size, number in zip((*SIZES, (2, 2)), (1, 2, 3, 1)):
        x = image(model, *size, batch=number)
        assert_close(module(x), model(x))


class WithPyramid(nn.Module):
    def __init__(self, **backbone) -> None:
        super().__init__()
        self.backbone = build(ViTDet, **backbone)
        self.neck = disturb(SimpleFeaturePyramid(self.backbone.out_channels[-1], 8, scale_factors=(2.0, 1.0, 0.5)))

    def forward(self, x):
        return self.neck(self.backbone(x))


@torch.no_grad()
def test_vitdet_with_its_pyramid():
    model = WithPyramid(arch=dict(embed_dim=16, depth=1, num_heads=2), global_block_indexes=[],
                        shifted_block_indexes=[0]).eval()
    images = [image(model.backbone, *size) for size in ((8, 6), (6, 10))]  # no level has a side of 1
    expected = [model(x) for x in images]
    traced = torch.jit.trace(model, images[0])
    batch, rows, columns = (torch.export.Dim(name, min=1, max=64) for name in ('batch', 'rows', 'columns'))
    exported = torch.export.export(model, (images[0],), strict=False, dynamic_shapes=(
        {0: batch, 2: 16 * rows, 3: 16 * columns},)).module()
    compiled = torch.compile(model, backend='eager', dynamic=True, fullgraph=True)
    for module in (traced, exported, compiled):
        for x, outs in zip(images, expected):
            assert_close(module(x), outs)


@torch.no_grad()
def test_masked_padding_does_not_depend_on_the_traced_images():
    model = build(VisionLSTM, mask_padding=True, conv_kind='2d', conv_kernel_size=3).eval()
    padded = image(model, 4, 6)
    padded[0, :, 40:] = 0
    padded[1, :, :, 70:] = 0
    batches = [padded, image(model, 4, 6), torch.zeros_like(padded), image(model, 5, 3)]
    traced = [torch.jit.trace(model, x, check_trace=False) for x in (torch.zeros_like(padded), image(model, 4, 6))]
    sides = [torch.export.Dim(name, min=1, max=64) for name in ('rows', 'columns')]
    exported = torch.export.export(model, (padded,), strict=False, dynamic_shapes=(
        {2: 16 * sides[0], 3: 16 * sides[1]},)).module()
    compiled = torch.compile(model, backend='eager', dynamic=True, fullgraph=True)
    for x in batches:
        valid = torch.ones(2, 1, *(side // 16 for side in x.shape[2:]), dtype=torch.bool)
        if x is padded:
            valid[0, :, 3:] = valid[1, :, :, 5:] = False
        if not x.any():
            valid[:] = False
            valid[:, :, 0, 0] = True
        for module in (*traced, exported, compiled):
            assert_close([out * valid for out in module(x)], [out * valid for out in model(x)])


def test_masked_padding_of_a_classifier_cannot_be_traced():
    model = build(VisionLSTM, mask_padding=True, pooling='bilateral_flatten').eval()
    model(image(model))
    with pytest.raises(UserError, match='set mask_padding=False'):
        torch.jit.trace(model, image(model))
