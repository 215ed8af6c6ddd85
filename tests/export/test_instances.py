"""Exported Mask2Former and RTMDet-Ins against mmdet's predict, in PyTorch and in ONNX Runtime."""

import json
import os

import cv2
import numpy as np
import pytest
import torch

from tests.detr.small import host
from tests.export.test_detectors import SIZE, by_mmdet, load, noise_image
from vitdet_plugin.cli import predict
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import difference_of_rows, predict_detections
from vitdet_plugin.export.mask_queries import enclosing_boxes
from vitdet_plugin.export.modules import ExportedDetector
from vitdet_plugin.utils.mask_rle import decode_mask


def neck(width):
    return dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=width, scale_factors=(2.0, 1.0, 0.5),
                num_outs=3)


def mask2former(**test_cfg):
    model = host('mask2former', {}, [32] * 3)
    kept = ('type', 'panoptic_head', 'panoptic_fusion_head', 'train_cfg')
    options = {**model.test_cfg, 'max_per_image': 8, 'panoptic_on': False, **test_cfg}
    return load(**{name: model[name] for name in kept}, neck=neck(32), test_cfg=options)


def rtmdet_ins(**test_cfg):
    head = dict(type='RTMDetInsSepBNHead', num_classes=3, in_channels=16, stacked_convs=1, feat_channels=16,
                norm_cfg=dict(type='BN'), act_cfg=dict(type='SiLU'),
                anchor_generator=dict(type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
                bbox_coder=dict(type='DistancePointBBoxCoder'),
                loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0),
                loss_bbox=dict(type='GIoULoss'), loss_mask=dict(type='DiceLoss', eps=5e-6, reduction='mean'))
    options = dict(nms_pre=60, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                   max_per_img=20, mask_thr_binary=0.5)
    return load(neck=neck(16), bbox_head=head, test_cfg={**options, **test_cfg})


KINDS = {'Mask2Former': mask2former, 'RTMDet-Ins': rtmdet_ins}


def assert_same(found, expected):
    rows = [np.asarray(part) for part in found]
    assert rows[3].dtype == np.uint8 and 3 < (rows[1] > 0).sum() == (expected[1] > 0).sum()
    assert difference_of_rows(rows, expected, max(SIZE), steps=255) < 1e-4


@pytest.mark.parametrize('kind', KINDS)
def test_equals_predict(kind):
    model = KINDS[kind]().model
    with torch.no_grad():
        module = ExportedDetector(model).eval()
        assert module.masks == 'image' and module.output_names[-1] == 'masks'
        for seed in range(2):
            image = noise_image(seed)
            found, expected = module(torch.cat([noise_image(5), image])), by_mmdet(model, image)
            assert_same([part[1] for part in found], [expected.bboxes.numpy(), expected.scores.numpy(),
                                                      expected.labels.numpy(), expected.masks.numpy()])


@pytest.mark.parametrize('kind', KINDS)
def test_padding_is_not_in_the_masks(kind):
    model, image = KINDS[kind]().model, noise_image(1)[..., :50, :70].contiguous()
    with torch.no_grad():
        found, expected = ExportedDetector(model).eval()(image), predict_detections(model, image)[0]
    assert found[3].shape[2:] == (50, 70)
    assert_same([part[0] for part in found], expected)


@pytest.mark.parametrize(('kind', 'dynamic'), [
    pytest.param('Mask2Former', ('batch', 'size'), marks=pytest.mark.skipif(
        'VITDET_SOAK' not in os.environ, reason='takes 30 seconds: make soak')),
    ('RTMDet-Ins', ())])
def test_the_file(tmp_path, kind, dynamic):
    """``export_onnx`` compares the file with mmdet's predict; the runtime reads its masks."""
    pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
    pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')
    from vitdet_plugin.export.onnx import export_onnx
    loaded = KINDS[kind]()
    loaded.cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile'), dict(type='PackDetInputs')]
    assert export_onnx(loaded, tmp_path / 'd.onnx', SIZE, dynamic=dynamic) < 1e-4
    image = noise_image(3)
    cv2.imwrite(str(tmp_path / 'a.png'), image[0].flip(0).permute(1, 2, 0).numpy().astype(np.uint8))
    words = [str(tmp_path / name) for name in ('d.onnx', 'a.png')]
    assert predict.main([*words, '--out', str(tmp_path), '--score-thr', '0', '--format', 'jsonl', '--no-draw']) == 0
    record = json.loads((tmp_path / 'predictions.jsonl').read_text())
    found = [np.array(record['boxes']), np.array(record['scores']), np.array(record['labels']),
             np.stack([decode_mask(rle) for rle in record['masks']]).astype(np.uint8)]
    expected = predict_detections(loaded.model, image)[0]
    assert difference_of_rows(found, expected, max(SIZE), steps=255) < 1e-3


def test_what_is_refused():
    for kind, options, says in [
            ('Mask2Former', dict(instance_on=False), 'model.test_cfg.instance_on is False. Set it to True'),
            ('Mask2Former', dict(max_per_image=-1), 'model.test_cfg.max_per_img=-1'),
            ('RTMDet-Ins', dict(mask_thr_binary=-1), 'Set model.test_cfg.mask_thr_binary to a number from 0 to 1'),
            ('RTMDet-Ins', dict(nms=dict(type='soft_nms', iou_threshold=0.5)), 'export of soft_nms is not supported')]:
        with pytest.raises(UserError, match=says):
            ExportedDetector(KINDS[kind](**options).model)


def test_boxes_enclose_masks():
    masks = torch.zeros(1, 3, 6, 8)
    masks[0, 0, 2:4, 1:8] = masks[0, 1, 0, 0] = 1
    assert enclosing_boxes(masks)[0].tolist() == [[1, 2, 8, 4], [0, 0, 1, 1], [0, 0, 0, 0]]
