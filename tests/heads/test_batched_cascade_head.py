"""Losses of a cascade whose samples are copied to the host once for each stage, against mmdet's ``CascadeRoIHead``."""

import copy

import pytest
import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks

from tests.configs.loading import load
from tests.heads.test_batched_roi_head import assert_close_losses, batch, losses_and_gradients
from vitdet_plugin.heads.batched_cascade_head import BatchedCascadeRoIHead

INTERNIMAGE = 'internimage/cascade-mask-rcnn_internimage-l_fpn_1x_coco'
VITDET = 'vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco'
CROWDHUMAN = 'internimage/cascade-rcnn_internimage-xl_fpn_3x_crowdhuman'
MMDET = dict(BatchedCascadeRoIHead='CascadeRoIHead', DeferredRandomSampler='RandomSampler',
             BatchedMaskHead='FCNMaskHead')


def head_of(recipe, is_ours, classes=3):
    """A recipe's RoI head with 8 channels, all of whose boxes are sampled."""
    cfg = copy.deepcopy(load(recipe).model)
    roi, train = cfg.roi_head, cfg.train_cfg.rcnn
    heads = [*roi.bbox_head, *([roi.mask_head] if 'mask_head' in roi else [])]
    for each in heads:
        each.update(in_channels=8, num_classes=classes)
        each.pop('norm_cfg', None)
        if 'conv_out_channels' in each:
            each.conv_out_channels = 8
        if 'fc_out_channels' in each:
            each.fc_out_channels = 16
    roi.bbox_roi_extractor.out_channels = 8
    if 'mask_head' in roi:
        roi.mask_roi_extractor.out_channels = 8
    for each in train:
        each.sampler.update(num=4096, pos_fraction=1.0)
    if not is_ours:
        for each in (roi, *(stage.sampler for stage in train), *heads):
            each.type = MMDET.get(each.type, each.type)
    torch.manual_seed(0)
    head = MODELS.build(dict(roi, train_cfg=train, test_cfg=cfg.test_cfg.rcnn)).train()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.05)
    return head


@pytest.mark.parametrize('recipe', [INTERNIMAGE, CROWDHUMAN])
@pytest.mark.parametrize(('counts', 'masks'), [((3, 2), PolygonMasks), ((3, 0, 1), BitmapMasks), ((0, 0), BitmapMasks)])
def test_losses_and_gradients_are_those_of_mmdet(recipe, counts, masks):
    given = batch(counts, masks=masks)
    heads = [head_of(recipe, is_ours) for is_ours in (True, False)]
    assert type(heads[0]) is BatchedCascadeRoIHead and type(heads[1]) is CascadeRoIHead
    assert heads[0].state_dict().keys() == heads[1].state_dict().keys()
    ours, theirs = (losses_and_gradients(head, given) for head in heads)
    assert ours[0].keys() == theirs[0].keys()
    assert {'s0.loss_bbox', 's2.loss_cls'} <= ours[0].keys() and ('s1.loss_mask' in ours[0]) == (recipe == INTERNIMAGE)
    assert_close_losses(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    for mine, expected in zip(ours[1], theirs[1], strict=True):
        if expected is None:
            assert mine is None or not mine.any()  # without positive samples
        else:
            torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('recipe', [INTERNIMAGE, CROWDHUMAN])
def test_bfloat16(recipe):
    given = batch((2, 3), masks=BitmapMasks)
    ours, theirs = (losses_and_gradients(head_of(recipe, is_ours), given, torch.bfloat16)[0]
                    for is_ours in (True, False))
    assert_close_losses(ours, theirs, rtol=1e-2, atol=1e-3, check_dtype=False)


def test_other_samplers_run_the_code_of_mmdet():
    given = batch((3, 2))
    head = head_of(INTERNIMAGE, True)
    head.bbox_sampler = head_of(INTERNIMAGE, False).bbox_sampler
    ours, theirs = (losses_and_gradients(each, given)[0] for each in (head, head_of(INTERNIMAGE, False)))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-6, atol=1e-7)


def test_no_box_at_all():
    maps, proposals, samples = batch((0,))
    given = maps, [proposals[0][:0]], samples
    ours, theirs = (losses_and_gradients(head_of(INTERNIMAGE, is_ours), given)[0] for is_ours in (True, False))
    assert ours.keys() == theirs.keys()


@pytest.mark.parametrize('method', ['_bbox_forward', '_mask_forward'])
@pytest.mark.parametrize('recipe', [INTERNIMAGE, VITDET])
def test_an_overridden_method_of_mmdet_is_called_in_training(recipe, method):
    called, given, head = [], batch((3, 2)), head_of(recipe, True)
    base = type(head)

    def bbox_forward(self, stage, x, rois):
        called.append(stage)
        return base._bbox_forward(self, stage, x, rois)

    def mask_forward(self, *args):
        called.append(args[0] if len(args) == 3 else 0)
        return base._mask_forward(self, *args)

    expected, _ = losses_and_gradients(head, given)
    override = bbox_forward if method == '_bbox_forward' else mask_forward
    head.__class__ = type('Changed', (base,), {method: override})
    found, _ = losses_and_gradients(head, given)
    assert called == ([0] if recipe == VITDET and method == '_mask_forward' else [0, 1, 2])
    assert_close_losses(found, expected, rtol=1e-5, atol=1e-6)


def test_an_overridden_refinement_of_boxes_is_called():
    called, head = [], head_of(CROWDHUMAN, True)
    base = type(head.bbox_head[0])

    def refine_bboxes(self, *args):
        called.append(self)
        return base.refine_bboxes(self, *args)

    for each in head.bbox_head:
        each.__class__ = type('Changed', (base,), dict(refine_bboxes=refine_bboxes))
    losses_and_gradients(head, batch((3, 2)))
    assert called == [head.bbox_head[0], head.bbox_head[1]]
