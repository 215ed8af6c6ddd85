"""Losses and proposals of all images at once, against mmdet's ``RPNHead``."""

import copy

import pytest
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from tests.configs.loading import load
from vitdet_plugin.heads.batched_rpn_head import BatchedRPNHead

LEVELS = [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
ANCHORS = 3 * sum(h * w for h, w in LEVELS)


def head_of(kind, change=lambda train_cfg: None):
    """An RPN head of the recipe for maps of :data:`LEVELS`, all of whose anchors are sampled."""
    cfg = load('vitdet_100e').model
    train_cfg = copy.deepcopy(cfg.train_cfg.rpn)
    train_cfg.sampler.update(num=ANCHORS, pos_fraction=1.0)
    change(train_cfg)
    return MODELS.build(dict(cfg.rpn_head, type=kind, in_channels=4, feat_channels=4, train_cfg=train_cfg,
                             test_cfg=cfg.test_cfg.rpn)).train()


def outputs(images, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(images, channels, *size, generator=generator).to(dtype).requires_grad_() for size in LEVELS]
            for channels in (3, 12)]


def objects_of(counts, seed=1):
    generator = torch.Generator().manual_seed(seed)
    found = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 40
        size = 4 + torch.rand(count, 2, generator=generator) * 20
        found.append(InstanceData(bboxes=torch.cat([corner, corner + size], 1), labels=torch.zeros(count).long()))
    return found


def metas_of(shapes):
    return [dict(img_shape=shape, pad_shape=shape) for shape in shapes]


def with_iou_assigner(train_cfg):
    train_cfg.assigner.update(type='MaxIoUAssigner', min_pos_iou=0.3, ignore_iof_thr=0.5)


def with_weight(train_cfg):
    train_cfg.pos_weight = 2.0


def with_border(train_cfg):
    with_iou_assigner(train_cfg)
    train_cfg.allowed_border = 4


@pytest.mark.parametrize('change', [lambda train_cfg: None, with_iou_assigner, with_weight, with_border])
@pytest.mark.parametrize(('counts', 'shapes'), [
    ((3, 1), [(64, 64)] * 2), ((4, 0, 2), [(64, 64), (40, 64), (30, 36)]), ((0, 0), [(64, 64)] * 2)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_losses_and_gradients_are_those_of_mmdet(change, counts, shapes, dtype):
    objects = objects_of(counts)
    ignored = [InstanceData(bboxes=torch.tensor([[0.0, 0, 30, 30]])) for _ in counts]
    results = []
    for kind in ('BatchedRPNHead', 'RPNHead'):
        head, (scores, deltas) = head_of(kind, change), outputs(len(counts), dtype=dtype)
        losses = head.loss_by_feat(scores, deltas, copy.deepcopy(objects), metas_of(shapes), copy.deepcopy(ignored))
        cls, bbox = (sum(losses[name]) for name in ('loss_rpn_cls', 'loss_rpn_bbox'))
        (cls + 2 * bbox).backward()
        results.append([cls.detach(), bbox.detach(), *(each.grad for each in (*scores, *deltas))])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5 if dtype == torch.float32 else 2e-2,
                                   atol=1e-7 if dtype == torch.float32 else 1e-5)


def test_a_limited_number_of_anchors_is_sampled():
    head, (scores, deltas) = head_of('BatchedRPNHead'), outputs(2)
    head.sampler.num, head.sampler.pos_fraction = 20, 0.2
    losses = head.loss_by_feat(scores, deltas, objects_of((3, 0)), metas_of([(64, 64)] * 2))
    sum(losses['loss_rpn_cls']).backward()
    used = [int(sum((level.grad[i] != 0).sum() for level in scores)) for i in range(2)]
    positive = [int(sum((level.grad[i] < 0).sum() for level in scores)) for i in range(2)]
    assert used == [20, 20] and 1 <= positive[0] <= 4 and positive[1] == 0


def test_an_image_without_an_anchor_inside_has_no_samples():
    head, (scores, deltas) = head_of('BatchedRPNHead', with_border), outputs(2)
    losses = head.loss_by_feat(scores, deltas, objects_of((2, 2)), metas_of([(64, 64), (1, 1)]))
    sum(losses['loss_rpn_cls']).backward()
    assert all((level.grad[1] == 0).all() for level in scores) and any(level.grad[0].any() for level in scores)


@pytest.mark.parametrize('change', [
    lambda train_cfg: train_cfg.sampler.update(type='RandomSampler', add_gt_as_proposals=False)])
def test_other_settings_run_the_code_of_mmdet(change, monkeypatch):
    called = []
    original = RPNHead.loss_by_feat
    monkeypatch.setattr(RPNHead, 'loss_by_feat', lambda self, *args: called.append(1) or original(self, *args))
    scores, deltas = outputs(1)
    head_of('BatchedRPNHead', change).loss_by_feat(scores, deltas, objects_of((2,)), metas_of([(64, 64)]))
    assert called == [1]


@pytest.mark.parametrize(('nms_pre', 'smallest', 'most'), [(50, 0, 30), (1000, 0, 1000), (60, 14, 1000), (60, 500, 10)])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_proposals_are_those_of_mmdet(nms_pre, smallest, most, dtype):
    cfg = copy.deepcopy(load('vitdet_100e').model.train_cfg.rpn_proposal)
    cfg.update(nms_pre=nms_pre, min_bbox_size=smallest, max_per_img=most)
    scores, deltas = outputs(3, dtype=dtype)
    # distinct scores: the order of equal ones is arbitrary
    order = torch.randperm(3 * ANCHORS, generator=torch.Generator().manual_seed(0)).view(3, ANCHORS)
    parts = (order / (3 * ANCHORS) * 8 - 4).split([3 * h * w for h, w in LEVELS], 1)
    scores = [part.reshape(level.shape).to(torch.float32) for part, level in zip(parts, scores)]
    metas = metas_of([(64, 64), (50, 64), (10, 12)])
    found = [head_of(kind).predict_by_feat(scores, deltas, batch_img_metas=metas, cfg=copy.deepcopy(cfg))
             for kind in ('BatchedRPNHead', 'RPNHead')]
    for ours, theirs in zip(*found, strict=True):
        assert set(ours.keys()) == set(theirs.keys()) and not ours.bboxes.requires_grad
        assert ours.labels.shape == theirs.labels.shape
        torch.testing.assert_close(ours.bboxes, theirs.bboxes.detach(), rtol=1e-6, atol=1e-5)
        torch.testing.assert_close(ours.scores, theirs.scores.detach(), rtol=1e-6, atol=0)


def test_more_boxes_than_mmdet_suppresses_at_once():
    """mmcv suppresses those of each level separately from 10,000 boxes on."""
    cfg = copy.deepcopy(load('vitdet_100e').model.train_cfg.rpn_proposal)
    cfg.update(nms_pre=9000, max_per_img=12000)
    generator = torch.Generator().manual_seed(0)
    sizes = [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4)]
    numbers = 3 * sum(h * w for h, w in sizes)
    parts = (torch.randperm(numbers, generator=generator) / numbers * 8 - 4).split([3 * h * w for h, w in sizes])
    scores = [part.view(1, 3, h, w) for part, (h, w) in zip(parts, sizes)]
    deltas = [torch.randn(1, 12, *size, generator=generator) * 0.3 for size in sizes]
    ours, theirs = (head_of(kind).predict_by_feat(scores, deltas, batch_img_metas=metas_of([(256, 256)]),
                                                  cfg=copy.deepcopy(cfg))[0] for kind in ('BatchedRPNHead', 'RPNHead'))
    assert 2000 < len(theirs) < numbers
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.bboxes, theirs.bboxes, rtol=1e-6, atol=1e-5)


def test_weights_have_the_same_names():
    assert head_of('BatchedRPNHead').state_dict().keys() == head_of('RPNHead').state_dict().keys()
    assert issubclass(BatchedRPNHead, RPNHead)


@pytest.mark.parametrize('method', ['get_anchors', '_get_targets_single', 'loss_by_feat_single',
                                    '_predict_by_feat_single', '_bbox_post_process'])
def test_an_overridden_method_of_mmdet_is_called_in_training(method):
    called, head, (scores, deltas) = [], head_of('BatchedRPNHead'), outputs(2)

    def override(self, *args, **kwargs):
        called.append(method)
        return getattr(BatchedRPNHead, method)(self, *args, **kwargs)

    head.__class__ = type('Changed', (BatchedRPNHead,), {method: override})
    metas = metas_of([(64, 64)] * 2)
    head.loss_by_feat(scores, deltas, objects_of((3, 1)), metas, [None] * 2)
    head.predict_by_feat(scores, deltas, batch_img_metas=metas, cfg=load('vitdet_100e').model.train_cfg.rpn_proposal)
    assert called
