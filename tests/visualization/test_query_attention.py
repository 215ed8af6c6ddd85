"""Attention of queries as explanation of boxes: DINO and its relatives, DETR with full attention, Mask2Former."""

import copy

import numpy as np
import pytest
import torch
from mmdet.registry import TASK_UTILS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from tests.detr.co_small import co_dino_cfg
from tests.detr.small import CHANNELS, INTERNIMAGE, build, deformable_detr, dino, host
from tests.export.test_queries import detector
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.errors import UserError
from vitdet_plugin.visualization.cam import METHODS, explain_boxes
from vitdet_plugin.visualization.query_attention import QueryAttention, _Samples, has_queries

SIZE = (64, 96)


def sample(shape=SIZE, padded=SIZE):
    return DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, batch_input_shape=padded, img_id=0,
                                       scale_factor=(1.0, 1.0)))


def full_attention(name: str) -> torch.nn.Module:
    """Build a small DETR, Conditional DETR or DAB-DETR; mmdet's Conditional DETR requires a width of 256."""
    width = 256 if 'conditional' in name else 32
    model = copy.deepcopy(load_config(f'mmdet::{name}.py').model)
    model.backbone = dict(INTERNIMAGE, out_indices=(3,))
    model.neck.update(in_channels=[CHANNELS[-1]], out_channels=width)
    model.num_queries = 12
    for part in (model.encoder, model.decoder):
        part.num_layers = 2
        part.layer_cfg.ffn_cfg.update(embed_dims=width, feedforward_channels=48)
        for attention in ('self_attn_cfg', 'cross_attn_cfg'):
            if attention in part.layer_cfg:
                part.layer_cfg[attention].update(embed_dims=width)
    model.positional_encoding.num_feats = width // 2
    model.bbox_head.update(num_classes=3, embed_dims=width)
    model.test_cfg.max_per_img = 10
    return build(model)


def mask2former() -> torch.nn.Module:
    model = host('mask2former', INTERNIMAGE, CHANNELS)
    model.test_cfg.max_per_image = 5
    return build(model)


FULL = {'DETR': 'detr/detr_r50_8xb2-150e_coco',
        'ConditionalDETR': 'conditional_detr/conditional-detr_r50_8xb2-50e_coco',
        'DABDETR': 'dab_detr/dab-detr_r50_8xb2-50e_coco'}
MODELS = {
    'DINO': dino,
    'DeformableDETR': deformable_detr,
    'CoDETR': lambda: build(co_dino_cfg()),
    'Mask2Former': mask2former,
    **{kind: lambda name=name: full_attention(name) for kind, name in FULL.items()},
}


def registered_hooks(model):
    return {name: (list(module._forward_hooks), list(module._forward_pre_hooks))
            for name, module in model.named_modules()}


@pytest.mark.parametrize('kind', MODELS)
def test_every_detector_with_queries(kind):
    model, images = MODELS[kind](), torch.randn(1, 3, *SIZE)
    assert has_queries(model)
    hooks = registered_hooks(model)
    with torch.no_grad():
        before = model.predict(images, [sample()], rescale=False)[0].pred_instances
    heat_maps = explain_boxes(model, images, sample(), max_boxes=3, score_thr=0.0)
    assert len(heat_maps) == 3
    best = before.scores.argsort(descending=True)[:3]
    np.testing.assert_allclose([each.score for each in heat_maps], before.scores[best], rtol=1e-5)
    assert all(each.map.shape == SIZE and each.map.min() >= 0 and each.map.max() == pytest.approx(1)
               for each in heat_maps)
    with torch.no_grad():  # the model is restored
        after = model.predict(images, [sample()], rescale=False)[0].pred_instances
    assert torch.equal(before.scores, after.scores)
    assert registered_hooks(model) == hooks


def test_the_map_is_on_the_object_of_a_trained_detector():
    """Object and background differ in brightness; the maps have strides of 16 and 32."""
    model = detector('DINO').model.train()
    model.bbox_head.assigner = TASK_UTILS.build(dict(type='HungarianAssigner', match_costs=[
        dict(type='FocalLossCost', weight=2.0), dict(type='BBoxL1Cost', weight=5.0, box_format='xywh')]))
    corners, side, samples = [(4, 32), (36, 8)], 24, []
    images = 0.1 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for image, (x, y) in zip(images, corners):
        image[:, y:y + side, x:x + side] += 2
        samples.append(sample((64, 64), (64, 64)))
        samples[-1].gt_instances = InstanceData(
            bboxes=torch.tensor([[x, y, x + side, y + side]], dtype=torch.float), labels=torch.tensor([1]))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(40):
        loss, _ = model.parse_losses(model.loss(images, samples))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    for image, (x, y) in zip(images, corners):
        heat, = explain_boxes(model, image[None], sample((64, 64), (64, 64)), 1, 0.0)
        assert heat.map[y:y + side, x:x + side].sum() > 2.5 * side ** 2 / 64 ** 2 * heat.map.sum()
        peak = np.unravel_index(heat.map.argmax(), heat.map.shape)
        assert x - 4 <= peak[1] < x + side + 4 and y - 4 <= peak[0] < y + side + 4


@pytest.mark.parametrize('build_model', [dino, deformable_detr])  # reference boxes, reference points
def test_samples_are_those_of_the_attention(build_model, monkeypatch):
    from mmcv.ops import multi_scale_deform_attn as mmcv_module
    run, calls = mmcv_module.multi_scale_deformable_attn_pytorch, []
    monkeypatch.setattr(mmcv_module, 'multi_scale_deformable_attn_pytorch',
                        lambda *args: calls.append(args) or run(*args))
    model = build_model()
    attention = QueryAttention(model, torch.randn(1, 3, *SIZE), sample((50, 70)))
    layers = len(model.decoder.layers)
    for read, (_, sizes, locations, weights) in zip(attention._reads, calls[-layers:], strict=True):
        torch.testing.assert_close(read.locations, locations[0])
        torch.testing.assert_close(read.weights, weights[0])
        assert read.sizes == [tuple(size) for size in sizes.tolist()]


def test_density_of_samples():
    """The sum is that of the weights; the center of mass is that of the samples."""
    locations = torch.tensor([[[[[0.4, 0.5], [0.6, 0.7]], [[0.5, 0.4], [0.5, 0.5]]]]])
    weights = torch.tensor([[[[0.5, 0.2], [0.2, 0.1]]]])
    density = _Samples(locations, weights, [(16, 24), (8, 12)]).density(0, SIZE)
    assert float(density.sum()) == pytest.approx(1, abs=1e-5)
    x = (density.sum(0) * (torch.arange(SIZE[1]) + 0.5)).sum() / SIZE[1]
    y = (density.sum(1) * (torch.arange(SIZE[0]) + 0.5)).sum() / SIZE[0]
    expected = (locations * weights[..., None]).sum((0, 1, 2, 3))
    torch.testing.assert_close(torch.stack([x, y]), expected, atol=1e-5, rtol=0)
    outside = _Samples(locations + 2, weights, [(16, 24), (8, 12)]).density(0, SIZE)
    assert outside.abs().max() == 0


@pytest.mark.parametrize('kind', ['DINO', 'DETR'])
def test_the_query_of_a_box_is_that_of_its_score(kind):
    model = MODELS[kind]()
    logits = []
    model.bbox_head.register_forward_hook(lambda _m, _i, outputs: logits.append(outputs[0][-1][0]))
    attention = QueryAttention(model, torch.randn(1, 3, *SIZE), sample())
    rows = logits[0].sigmoid() if kind == 'DINO' else logits[0].softmax(1)
    found = attention.found
    torch.testing.assert_close(rows[attention._queries, found.labels], found.scores)


def test_attention_of_detr_is_in_the_image():
    """mmdet masks the padding."""
    attention = QueryAttention(MODELS['DETR'](), torch.randn(1, 3, 128, 128), sample((64, 64), (128, 128)))
    density = attention.density(0)
    assert float(density.sum()) == pytest.approx(1, abs=1e-5)
    assert density[:80, :80].sum() > 0.999  # interpolation reaches half a position of 32 pixels farther


def test_other_detectors():
    dense = build(host('atss', INTERNIMAGE, CHANNELS))
    assert not has_queries(dense)
    with pytest.raises(UserError, match="'attention' requires a detector with queries, such as DINO, not ATSS"):
        explain_boxes(dense, torch.randn(1, 3, *SIZE), sample(), method='attention')
    model = MODELS['CoDETR']()
    assert has_queries(model)
    model.predict_with = 'bbox_head.0'
    assert not has_queries(model)
    assert 'attention' not in METHODS  # needs no pytorch-grad-cam
