"""Exported DINO against mmdet's predict, in PyTorch and in ONNX Runtime."""

import os

import pytest
import torch

from tests.detr.co_small import co_dino_cfg
from tests.export.test_detectors import SIZE, by_mmdet, load, noise_image
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import difference_of_rows, predict_detections
from vitdet_plugin.export.modules import ExportedDetector
from vitdet_plugin.ops.ms_deform_attn.reference import ms_deform_attn_pytorch


def detector(kind, dim=32, two_stage=True, refine=True, head=None):
    """Load a detector of two levels, one encoder layer and two decoder layers on the backbone of the tiny config."""
    deformable = dict(embed_dims=dim, num_heads=4, num_levels=2, num_points=2)
    ffn = dict(embed_dims=dim, feedforward_channels=48)
    options = dict(
        type=kind, num_queries=12, num_feature_levels=2, with_box_refine=refine, as_two_stage=two_stage,
        neck=dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=dim, scale_factors=(1.0, 0.5), num_outs=2),
        encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
        decoder=dict(num_layers=2, return_intermediate=True, post_norm_cfg=None, layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=dim, num_heads=4), cross_attn_cfg=deformable, ffn_cfg=ffn)),
        positional_encoding=dict(num_feats=dim // 2, normalize=True, offset=-0.5),
        bbox_head=dict(type=head or f'{kind}Head', num_classes=3, embed_dims=dim, sync_cls_avg_factor=True,
                       loss_cls=dict(type='FocalLoss', use_sigmoid=True)),
        test_cfg=dict(max_per_img=30))
    if kind == 'DINO':
        options['dn_cfg'] = dict(label_noise_scale=0.5, box_noise_scale=1.0,
                                 group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries=4))
    return load(**options)


def co_dino():
    """Load Co-DINO with NMS; its auxiliary heads are not part of exported files."""
    options = dict(detector('DINO', head='CoDINOHead').cfg.model)
    aux = co_dino_cfg(levels=2, layers=1)
    options.update({name: aux[name] for name in ('aux_rpn_head', 'aux_roi_heads', 'aux_bbox_heads', 'proposal_cfg')},
                   type='CoDETR')
    options['test_cfg']['nms'] = dict(type='nms', iou_threshold=0.02)
    return load(**{name: each for name, each in options.items() if name not in ('data_preprocessor', 'backbone')})


def assert_same_as_mmdet(model):
    with torch.no_grad():
        for seed in range(3):
            found = [each[0] for each in ExportedDetector(model).eval()(noise_image(seed))]
            expected = by_mmdet(model, noise_image(seed))
            assert (found[1][len(expected.scores):] == 0).all()  # removed by NMS
            found = [each[:len(expected.scores)] for each in found]
            for ours, theirs in zip(found, (expected.bboxes, expected.scores, expected.labels), strict=True):
                torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(('kind', 'two_stage', 'refine'), [
    ('DINO', True, True), ('DeformableDETR', True, True), ('DeformableDETR', False, True),
    ('DeformableDETR', False, False)])
def test_equals_predict(kind, two_stage, refine):
    # the embedding of proposals has 4 x 128 columns in Deformable DETR with two stages
    assert_same_as_mmdet(detector(kind, 256 if two_stage and kind != 'DINO' else 32, two_stage, refine).model)


@pytest.mark.parametrize(('kind', 'two_stage'), [('DINO', True), ('DeformableDETR', True), ('DeformableDETR', False)])
@pytest.mark.parametrize('size', [(50, 70), (33, 96)])
def test_padding_is_masked(kind, two_stage, size):
    loaded = detector(kind, 256 if two_stage and kind != 'DINO' else 32, two_stage)
    image = noise_image(1)[..., :size[0], :size[1]].contiguous()
    with torch.no_grad():
        found = [each[0] for each in ExportedDetector(loaded.model).eval()(image)]
    assert difference_of_rows(found, predict_detections(loaded.model, image)[0], max(size)) < 1e-4


@pytest.mark.parametrize(('kind', 'dynamic'), [
    pytest.param('Co-DINO', ('batch', 'size'), marks=pytest.mark.skipif(
        'VITDET_SOAK' not in os.environ, reason='takes 40 seconds: make soak')),
    ('DeformableDETR', ())])
def test_the_file(tmp_path, kind, dynamic):
    """``export_onnx`` compares the file with mmdet's predict."""
    onnxruntime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
    pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')
    from vitdet_plugin.export.onnx import export_onnx
    loaded = co_dino() if kind == 'Co-DINO' else detector(kind, two_stage=False)
    assert export_onnx(loaded, tmp_path / 'd.onnx', SIZE, dynamic=dynamic) < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / 'd.onnx', providers=['CPUExecutionProvider'])
    outputs = session.run(['boxes', 'scores', 'labels'], {'image': noise_image(7).numpy()})
    expected = by_mmdet(loaded.model, noise_image(7))
    for found, each in zip(outputs, (expected.bboxes, expected.scores, expected.labels)):
        torch.testing.assert_close(torch.from_numpy(found[0][:len(each)]), each.detach(), atol=1e-2, rtol=1e-3)
    # with cells of padding in both levels, and without padding
    for height, width in ((97, 50), (160, 128)) if dynamic else ():
        images = torch.cat([noise_image(0), noise_image(1)]).repeat(1, 1, 3, 2)[..., :height, :width]
        outputs = session.run(None, {'image': images.numpy()})
        for i, expected in enumerate(predict_detections(loaded.model, images)):
            assert difference_of_rows([each[i] for each in outputs], expected, max(height, width)) < 1e-4


@pytest.mark.parametrize('nms', [None, dict(type='nms', iou_threshold=0.02)])
def test_the_head_of_the_shipped_configs(nms):
    model = detector('DINO', head='OriginalDINOHead').model
    model.bbox_head.test_cfg['nms'] = nms
    assert (len(by_mmdet(model, noise_image()).scores) < 30) == bool(nms)
    assert_same_as_mmdet(model)


def test_co_dino():
    model = co_dino().model
    assert_same_as_mmdet(model)
    model.bbox_head.test_cfg['nms'] = dict(type='soft_nms', iou_threshold=0.8)
    with pytest.raises(UserError, match='export of soft_nms is not supported. Set nms.type=nms in model.test_cfg'):
        ExportedDetector(model)
    model.predict_with = 'bbox_head.0'
    with pytest.raises(UserError, match='export of the auxiliary head bbox_head.0'):
        ExportedDetector(model)


def test_samples_far_outside_of_a_map(tmp_path):
    """ONNX Runtime converts coordinates to integers, which overflow."""
    onnxruntime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
    pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')

    class Sampling(torch.nn.Module):
        def forward(self, value, locations, weights):
            return ms_deform_attn_pytorch(value, [(4, 6), (1, 1)], locations, weights)

    generator = torch.Generator().manual_seed(0)
    value, weights = (torch.rand(shape, generator=generator) for shape in ((1, 25, 2, 8), (1, 5, 2, 2, 3)))
    locations = torch.rand(1, 5, 2, 2, 3, 2, generator=generator)
    locations[:, 1] += 1e19
    locations[:, 2] -= 3e10
    locations[:, 3] *= 1.4
    inputs = dict(value=value, locations=locations, weights=weights)
    torch.onnx.export(Sampling(), tuple(inputs.values()), dynamo=True, input_names=list(inputs), opset_version=18,
                      verbose=False).save(tmp_path / 's.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 's.onnx', providers=['CPUExecutionProvider'])
    found, = session.run(None, {name: each.numpy() for name, each in inputs.items()})
    torch.testing.assert_close(torch.from_numpy(found), Sampling()(*inputs.values()))


def test_what_is_refused():
    model = detector('DINO').model
    model.test_cfg['max_per_img'] = 0
    with pytest.raises(UserError, match='max_per_img=0'):
        ExportedDetector(model)
