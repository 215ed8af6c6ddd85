"""Exported FCOS, ATSS and RTMDet against mmdet's predict, in PyTorch and in ONNX Runtime."""

import numpy as np
import pytest
import torch

from tests.export.test_detectors import by_mmdet, load, noise_image
from vitdet_plugin.export.comparison import difference_of_rows, predict_detections
from vitdet_plugin.export.modules import ExportedDetector

STRIDES = [8, 16, 32]
ANCHOR = dict(type='AnchorGenerator', ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=STRIDES)
POINTS = dict(type='MlvlPointGenerator', offset=0, strides=STRIDES)
FOCAL = dict(type='FocalLoss', use_sigmoid=True)
HEADS = {
    'FCOS': dict(type='FCOSHead', strides=STRIDES, norm_on_bbox=True, centerness_on_reg=True),
    'FCOS with exp': dict(type='FCOSHead', strides=STRIDES),
    'ATSS': dict(type='ATSSHead', anchor_generator=ANCHOR, loss_cls=FOCAL),
    'RTMDet': dict(type='RTMDetHead', anchor_generator=POINTS, bbox_coder=dict(type='DistancePointBBoxCoder'),
                   loss_cls=FOCAL),
    'RTMDet with shared convolutions': dict(
        type='RTMDetSepBNHead', anchor_generator=POINTS, bbox_coder=dict(type='DistancePointBBoxCoder'),
        exp_on_reg=True, with_objectness=False, norm_cfg=dict(type='BN'), loss_cls=FOCAL),
}


def one_stage(name, **changes):
    head = dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1, init_cfg=None,
                norm_cfg=dict(type='GN', num_groups=4))
    scales = [16 / stride for stride in changes.get('strides', STRIDES)]
    neck = dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=16, scale_factors=scales,
                num_outs=len(scales))
    return load(bbox_head={**head, **HEADS[name], **changes}, neck=neck,
                test_cfg=dict(nms_pre=60, score_thr=0.02, min_bbox_size=0, nms=dict(type='nms', iou_threshold=0.6),
                              max_per_img=40))


@pytest.mark.parametrize('name', HEADS)
def test_equals_predict(name):
    model = one_stage(name).model
    for seed in range(3):
        with torch.no_grad():
            found = [each[0] for each in ExportedDetector(model).eval()(noise_image(seed))]
            expected = by_mmdet(model, noise_image(seed))
        count = len(expected)
        assert count > 3 and not found[1][count:].any()
        for ours, theirs in zip(found, (expected.bboxes, expected.scores, expected.labels), strict=True):
            torch.testing.assert_close(ours[:count], theirs, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(('name', 'changes', 'dynamic', 'shape'), [
    ('FCOS', dict(strides=[16, 32]), ('batch', 'size'), (3, 3, 100, 70)),  # each level takes seconds
    ('RTMDet', {}, (), (1, 3, 64, 96))])
def test_the_file(name, changes, dynamic, shape, tmp_path):
    """``export_onnx`` compares the file with mmdet's predict."""
    runtime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
    pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')
    from vitdet_plugin.export.onnx import export_onnx
    loaded = one_stage(name, **changes)
    assert export_onnx(loaded, tmp_path / 'd.onnx', (64, 96), dynamic=dynamic) < 1e-4
    session = runtime.InferenceSession(tmp_path / 'd.onnx', providers=['CPUExecutionProvider'])
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape).astype(np.float32))
    found = session.run(None, dict(image=images.numpy()))
    for i, expected in enumerate(predict_detections(loaded.model, images)):
        assert len(expected[0]) > 3
        assert difference_of_rows([part[i] for part in found], expected, max(shape)) < 1e-4
