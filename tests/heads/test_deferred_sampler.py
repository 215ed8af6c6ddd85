"""Samples that are drawn for all images at once, against mmdet's samplers."""

import copy

import numpy as np
import pytest
import torch
from mmdet.models.task_modules.assigners import AssignResult
from mmdet.models.task_modules.samplers import PseudoSampler, RandomSampler
from mmengine.structures import InstanceData

from vitdet_plugin.heads.deferred_sampler import (
    DeferredPseudoSampler,
    DeferredRandomSampler,
    draw_samples,
    resolve,
)

SHARED = ('pos_inds', 'neg_inds', 'pos_priors', 'neg_priors', 'pos_is_gt', 'pos_assigned_gt_inds', 'pos_gt_labels',
          'pos_gt_bboxes', 'priors', 'num_pos', 'num_neg', 'num_gts', 'avg_factor')


def image(boxes, objects, seed):
    """Boxes, objects, and an assignment with positive, negative and ignored boxes."""
    generator = torch.Generator().manual_seed(seed)
    gt_inds = torch.randint(-1, objects + 1, (boxes,), generator=generator)
    labels = torch.randint(0, 5, (objects,), generator=generator)
    assigned = torch.full((boxes,), -1)
    assigned[gt_inds > 0] = labels[gt_inds[gt_inds > 0] - 1]
    return (AssignResult(objects, gt_inds, torch.rand(boxes, generator=generator), assigned),
            InstanceData(priors=torch.rand(boxes, 4, generator=generator) * 100),
            InstanceData(bboxes=torch.rand(objects, 4, generator=generator) * 100, labels=labels))


def samples(sampler, images):
    return [sampler.sample(*copy.deepcopy(each)) for each in images]


def assert_equal(found, expected):
    for name in SHARED:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


# one image has no object, one no box but objects, one nothing at all
IMAGES = [image(40, 3, 0), image(7, 0, 1), image(0, 2, 2), image(0, 0, 3), image(60, 9, 4)]


@pytest.mark.parametrize('add', [True, False])
def test_where_all_boxes_are_taken_the_result_is_that_of_mmdet(add):
    settings = dict(num=1000, pos_fraction=0.5, add_gt_as_proposals=add)
    found = samples(DeferredRandomSampler(**settings), IMAGES)
    resolve(found)
    for ours, theirs in zip(found, samples(RandomSampler(**settings), IMAGES)):
        assert_equal(ours, theirs)
        np.testing.assert_array_equal(ours.host_boxes, theirs.priors.numpy())
        np.testing.assert_array_equal(ours.host_gt_inds, theirs.pos_assigned_gt_inds.numpy())


def test_every_box_is_a_sample_without_a_limit():
    found = samples(DeferredPseudoSampler(), IMAGES)
    resolve(found)
    for ours, theirs in zip(found, samples(PseudoSampler(), IMAGES)):
        assert_equal(ours, theirs)


@pytest.mark.parametrize('ratio', [-1, 0, 1.5])
def test_limited_numbers_are_those_of_mmdet(ratio):
    settings = dict(num=12, pos_fraction=0.25, neg_pos_ub=ratio)
    found = samples(DeferredRandomSampler(**settings), IMAGES)
    resolve(found)
    for (assigned, *_), ours, theirs in zip(IMAGES, found, samples(RandomSampler(**settings), IMAGES)):
        assert (ours.pos_inds.shape, ours.neg_inds.shape) == (theirs.pos_inds.shape, theirs.neg_inds.shape)
        added = ours.num_gts
        gt_inds = torch.cat([torch.arange(1, added + 1), assigned.gt_inds])
        assert (gt_inds[ours.pos_inds] > 0).all() and (gt_inds[ours.neg_inds] == 0).all()
        assert ours.pos_inds.tolist() == sorted(set(ours.pos_inds.tolist()))
        assert ours.neg_inds.tolist() == sorted(set(ours.neg_inds.tolist()))


def test_an_attribute_of_a_single_image_draws_its_samples():
    found = DeferredRandomSampler(num=8, pos_fraction=0.25).sample(*copy.deepcopy(IMAGES[0]))
    assert not found.is_resolved and not hasattr(found, 'no_such_attribute')
    first = copy.copy(found).pos_inds
    assert len(first) == 2 and len(found.priors) == 8 and found.is_resolved
    before = found.pos_inds
    resolve([found])
    assert found.pos_inds is before


def test_every_box_is_drawn_with_the_same_probability():
    """Counts of 4,000 images stay within 5 standard deviations; pairs are as frequent as without replacement."""
    torch.manual_seed(0)
    gt_inds = torch.tensor([1, 0, 2, 0, 0, -1, 1, 0, 0, 1]).expand(4000, -1)
    positive, negative, positives, negatives = draw_samples(gt_inds, 5, 2)
    assert (positives == 2).all() and (negatives == 3).all()
    for drawn, candidates in ((positive, [0, 2, 6, 9]), (negative[:, :3], [1, 3, 4, 7, 8])):
        share = drawn.shape[1] / len(candidates)
        counts = torch.bincount(drawn.flatten(), minlength=10)
        assert counts.nonzero()[:, 0].tolist() == candidates
        limit = 5 * (4000 * share * (1 - share)) ** 0.5
        assert (counts[candidates] - 4000 * share).abs().max() < limit
    pairs = torch.unique(positive, dim=0, return_counts=True)[1]
    assert len(pairs) == 6 and (pairs - 4000 / 6).abs().max() < 5 * (4000 / 6 * 5 / 6) ** 0.5
