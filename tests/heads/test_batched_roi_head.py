"""Losses of the RoI head whose samples are copied to the host at once, against mmdet's ``StandardRoIHead``."""

import copy

import numpy as np
import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.structures import InstanceData

from tests.configs.loading import load
from vitdet_plugin.heads.batched_roi_head import BatchedRoIHead
from vitdet_plugin.heads.box_deltas import decode, encode
from vitdet_plugin.heads.roi_features import extract, rois_on_host

MMDET = dict(BatchedRoIHead='StandardRoIHead', DeferredRandomSampler='RandomSampler', BatchedMaskHead='FCNMaskHead',
             Detectron2MaskHead='Detectron2MaskHead')


def head_of(is_ours, change=lambda cfg: None, classes=3):
    """The recipe's RoI head with 8 channels, all of whose boxes are sampled."""
    cfg = copy.deepcopy(load('vitdet_100e').model)
    roi, train = cfg.roi_head, cfg.train_cfg.rcnn
    train.sampler.update(num=4096, pos_fraction=1.0)
    for extractor in (roi.bbox_roi_extractor, roi.mask_roi_extractor):
        extractor.out_channels = 8
    for head in (roi.bbox_head, roi.mask_head):
        head.update(in_channels=8, conv_out_channels=8, num_classes=classes)
    roi.bbox_head.update(fc_out_channels=16)
    change(roi)
    if not is_ours:
        for each in (roi, train.sampler, roi.mask_head):
            each.type = MMDET[each.type]
    torch.manual_seed(0)
    head = MODELS.build(dict(roi, train_cfg=train, test_cfg=cfg.test_cfg.rcnn)).train()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.05)
    return head


def batch(counts, classes=3, masks=PolygonMasks):
    """Maps, proposals and samples; proposals are objects that are moved a little, large and small boxes."""
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(len(counts), 8, 512 // s, 512 // s, generator=generator) for s in (4, 8, 16, 32, 64)]
    proposals, samples = [], []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 300
        objects = torch.cat([corner, corner + 20 + torch.rand(count, 2, generator=generator) * 180], 1)
        others = torch.rand(6, 2, generator=generator) * 200
        others = torch.cat([others, others + torch.rand(6, 2, generator=generator) * 300], 1)
        proposals.append(InstanceData(bboxes=torch.cat([objects + 3, objects * 0.98, others]),
                                      scores=torch.rand(2 * count + 6, generator=generator)))
        sample = DetDataSample(metainfo=dict(img_shape=(512, 512)))
        polygons = [[np.array([x1, y1, x2, y1, x2, y2, x1, y2])] for x1, y1, x2, y2 in objects.tolist()]
        sample.gt_instances = InstanceData(bboxes=objects, masks=PolygonMasks(polygons, 512, 512),
                                           labels=torch.randint(0, classes, (count,), generator=generator))
        if masks is BitmapMasks:
            sample.gt_instances.masks = sample.gt_instances.masks.to_bitmap()
        sample.ignored_instances = InstanceData(bboxes=objects[:1] + 40, labels=torch.zeros(min(count, 1)).long())
        samples.append(sample)
    return maps, proposals, samples


def losses_and_gradients(head, given, dtype=torch.float32):
    maps, proposals, samples = copy.deepcopy(given)
    maps = [level.to(dtype).requires_grad_() for level in maps]
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype == torch.bfloat16):
        losses = head.loss(tuple(maps), proposals, samples)
    sum(value.sum() for name, value in losses.items() if 'loss' in name).backward()
    used = maps[:4]  # the last level is for the proposals only
    return losses, [level.grad for level in used] + [p.grad for p in head.parameters()]


def agnostic(roi):
    roi.bbox_head.reg_class_agnostic = roi.mask_head.class_agnostic = True


def smooth(roi):
    roi.bbox_head.loss_bbox = dict(type='SmoothL1Loss', beta=0.1, loss_weight=2.0)


def mask_head_of_mmdet(roi):
    roi.mask_head.type = 'BatchedMaskHead'


def overlap_loss(roi):
    mask_head_of_mmdet(roi)
    roi.bbox_head.update(loss_bbox=dict(type='GIoULoss'), reg_decoded_bbox=True)


def assert_close_losses(ours, theirs, rtol, atol, check_dtype=True):
    for name, value in ours.items():
        torch.testing.assert_close(value.reshape(-1), theirs[name].reshape(-1), rtol=rtol, atol=atol,
                                   check_dtype=check_dtype, msg=lambda text, at=name: f'{at}: {text}')


@pytest.mark.parametrize(('counts', 'classes', 'change'), [
    ((3, 2), 3, lambda roi: None), ((3, 0, 1), 3, agnostic), ((0, 0), 3, lambda roi: None), ((4,), 1, smooth),
    ((2, 5), 80, lambda roi: None), ((2, 1), 3, overlap_loss), ((0, 3), 3, mask_head_of_mmdet),
    ((0, 0), 3, overlap_loss)])
def test_losses_and_gradients_are_those_of_mmdet(counts, classes, change):
    given = batch(counts, classes)
    ours, theirs = (losses_and_gradients(head_of(is_ours, change, classes), given) for is_ours in (True, False))
    assert ours[0].keys() == theirs[0].keys()
    assert_close_losses(ours[0], theirs[0], rtol=1e-5, atol=1e-7)
    for mine, expected in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('change', [lambda roi: None, overlap_loss])
def test_masks_as_bitmaps_and_bfloat16(change):
    given = batch((2, 3), masks=BitmapMasks)
    ours, theirs = (losses_and_gradients(head_of(is_ours, change), given, torch.bfloat16)[0]
                    for is_ours in (True, False))
    assert_close_losses(ours, theirs, rtol=1e-3, atol=1e-5, check_dtype=False)


def test_a_weight_of_positive_samples():
    given, found = batch((3, 2)), []
    for is_ours in (True, False):
        head = head_of(is_ours)
        head.train_cfg.pos_weight = 3.0
        found.append(losses_and_gradients(head, given)[0]['loss_cls'])
    torch.testing.assert_close(*found, rtol=1e-5, atol=0)


@pytest.mark.parametrize('sides', [(10, 60, 150, 300, 500), (150, 160), ()])
def test_features_of_each_level_are_those_of_mmdet(sides):
    extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=7, sampling_ratio=0), 8, [4, 8, 16, 32])
    boxes = [np.array([[5, 7, 5 + s, 7 + s] for s in sides], np.float32).reshape(-1, 4) for _ in range(2)]
    on_host = rois_on_host(boxes)
    grads = []
    for function in (lambda maps, rois: extract(extractor, maps, rois, on_host), extractor):
        maps = [level.requires_grad_() for level in batch((0, 0))[0][:4]]
        features = function(tuple(maps), torch.from_numpy(on_host))
        (features * torch.arange(features.numel()).reshape(features.shape)).sum().backward()
        grads.append([features.detach(), *(level.grad for level in maps)])
    for mine, expected in zip(*grads, strict=True):  # of levels without boxes too
        torch.testing.assert_close(mine, expected, rtol=0, atol=0)


@pytest.mark.parametrize('clip', [True, False])
def test_deltas_are_those_of_mmdet(clip):
    coder = DeltaXYWHBBoxCoder([0.1, 0.0, -0.2, 0.3], [0.1, 0.1, 0.2, 0.2], clip_border=clip)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(2, 9, 2, 2, generator=generator) * 50
    first, second = torch.cat([corner, corner + 1 + torch.rand(2, 9, 2, 2, generator=generator) * 60], -1).unbind(2)
    torch.testing.assert_close(encode(coder, first, second), coder.encode(first, second), rtol=0, atol=0)
    deltas = torch.randn(2, 9, 4, generator=generator) * 20
    found = decode(coder, first, deltas, torch.tensor([[[40.0, 30.0]], [[90.0, 80.0]]]))
    for i, shape in enumerate([(30, 40), (80, 90)]):
        torch.testing.assert_close(found[i], coder.decode(first[i], deltas[i], max_shape=shape), rtol=0, atol=0)


@pytest.mark.parametrize('method', ['_bbox_forward', '_mask_forward'])
def test_an_overridden_method_is_called_in_training(method):
    called = []

    def override(self, *args, **kwargs):
        called.append(method)
        return getattr(BatchedRoIHead, method)(self, *args, **kwargs)

    given, head = batch((3, 2)), head_of(True)
    expected, _ = losses_and_gradients(head, given)
    head.__class__ = type('Changed', (BatchedRoIHead,), {method: override})
    found, _ = losses_and_gradients(head, given)
    assert called == [method]
    assert_close_losses(found, expected, rtol=1e-5, atol=1e-6)
