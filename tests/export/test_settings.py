"""Every setting of ``test_cfg`` is followed as mmdet's ``predict`` does, or refused."""

import pytest
import torch

from tests.export.test_detectors import ANCHORS, NMS, assert_same_boxes, by_mmdet, load, noise_image
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.detectors import exportable_heads
from vitdet_plugin.export.modules import ExportedDetector
from vitdet_plugin.export.onnx import TOLERANCE
from vitdet_plugin.export.references import Reference


def retinanet(**test_cfg):
    return load(
        bbox_head=dict(type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
                       anchor_generator=ANCHORS, loss_cls=dict(type='FocalLoss'),
                       bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[0.2] * 4)),
        test_cfg=dict(dict(nms_pre=50, score_thr=0.02, min_bbox_size=0, nms=NMS, max_per_img=40), **test_cfg))


def mask_rcnn(rpn=None, rcnn=None):
    loaded = load()
    loaded.model.rpn_head.test_cfg.update(rpn or {})
    loaded.model.roi_head.test_cfg.update(rcnn or {})
    return loaded


LOW = dict(type='nms', iou_threshold=0.3)
FOLLOWED = {
    'rcnn classes together': dict(rcnn=dict(nms=dict(LOW, class_agnostic=True))),
    'rcnn max_num': dict(rcnn=dict(nms=dict(LOW, max_num=5))), 'rcnn max_per_img': dict(rcnn=dict(max_per_img=6)),
    'rcnn score_threshold': dict(rcnn=dict(nms=dict(LOW, score_threshold=0.3))),
    'rpn levels together': dict(rpn=dict(nms=dict(LOW, class_agnostic=True))),
    'rpn max_num': dict(rpn=dict(nms=dict(LOW, max_num=7))), 'rpn min_bbox_size': dict(rpn=dict(min_bbox_size=20)),
    'rpn all boxes': dict(rpn=dict(nms_pre=-1)), 'rpn score_thr, ignored by mmdet': dict(rpn=dict(score_thr=0.9)),
    'masks': dict(rcnn=dict(mask_thr_binary=0.5)),
}


@pytest.mark.parametrize('case', FOLLOWED)
def test_two_stages(case):
    assert_same_boxes(mask_rcnn(**FOLLOWED[case]).model)


@pytest.mark.parametrize('test_cfg', [
    dict(nms=dict(NMS, class_agnostic=True)), dict(nms=dict(NMS, max_num=7)), dict(min_bbox_size=30),
    dict(nms_pre=9), dict(score_thr=0.6)], ids=str)
def test_one_stage(test_cfg):
    assert_same_boxes(retinanet(**test_cfg).model)


@pytest.mark.parametrize(('part', 'changes', 'says'), [
    ('rcnn', dict(max_per_img=-1), r'model.test_cfg.rcnn.max_per_img=-1 keeps every box, .* Set it to a positive'),
    ('rpn', dict(max_per_img=0), r'model.test_cfg.rpn.max_per_img=0'),
    ('rcnn', dict(nms=dict(type='soft_nms', iou_threshold=0.5)), r'export of soft_nms is not supported'),
    ('rcnn', dict(nms=dict(NMS, offset=1)), r'export of offset=1 in model.test_cfg.rcnn.nms is not supported'),
    ('rpn', dict(nms=dict(NMS, sigma=0.5)), r'export of sigma=0.5 in model.test_cfg.rpn.nms'),
    ('rcnn', dict(nms=None), r'model.test_cfg.rcnn has no nms'),
    ('dense', dict(max_per_img=-1), r'model.test_cfg.max_per_img=-1'),
    ('dense', dict(nms_pre=-1), r'model.test_cfg.nms_pre=-1 is not supported')])
def test_settings_that_are_refused(part, changes, says):
    model = (retinanet(**changes) if part == 'dense' else mask_rcnn(**{part: changes})).model
    with pytest.raises(UserError, match=says) as caught:
        exportable_heads(model)
    assert '\n' not in str(caught.value)


def test_a_difference_from_mmdet_is_found():
    """The file is compared with mmdet's own predictions, not only with the exported module."""
    model = mask_rcnn(rcnn=dict(nms=dict(LOW, class_agnostic=True))).model
    exported = ExportedDetector(model).eval()
    with torch.no_grad():
        reference = Reference(exported, noise_image())
        assert reference.count == len(by_mmdet(model, noise_image()))
        assert reference.difference([each.numpy() for each in reference.outputs]) < 1e-5
        exported.heads.nms = type(exported.heads.nms)(0.9)  # an export that ignores the settings
        wrong = Reference(exported, noise_image())
        assert not wrong.difference([each.numpy() for each in wrong.outputs]) < TOLERANCE
        masks = [each.numpy() for each in reference.outputs]
        masks[3] = 1 - masks[3]
        reference.outputs = tuple(torch.from_numpy(each) for each in masks)
        assert reference.difference(masks) > TOLERANCE
    assert model.roi_head.test_cfg.mask_thr_binary == 0.5
