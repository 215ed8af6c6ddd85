"""One-to-many matching against mmdet's one-to-one matching."""

import pytest
import torch
from mmdet.models.task_modules.assigners import HungarianAssigner
from mmengine.structures import InstanceData

from vitdet_plugin.heads.repeated_assigner import RepeatedHungarianAssigner

COSTS = [dict(type='FocalLossCost', weight=2.0), dict(type='BBoxL1Cost', weight=5.0, box_format='xywh'),
         dict(type='IoUCost', iou_mode='giou', weight=2.0)]
META = dict(img_shape=(64, 64))


def instances(queries, objects):
    generator = torch.Generator().manual_seed(queries + objects)
    corners = [torch.rand(n, 2, generator=generator) * 32 for n in (queries, objects)]
    sizes = [8 + torch.rand(n, 2, generator=generator) * 20 for n in (queries, objects)]
    boxes = [torch.cat((corner, corner + size), 1) for corner, size in zip(corners, sizes)]
    found = InstanceData(bboxes=boxes[0], scores=torch.randn(queries, 3, generator=generator))
    return found, InstanceData(bboxes=boxes[1], labels=torch.randint(0, 3, (objects,), generator=generator))


@pytest.mark.parametrize('copies', [1, 3])
def test_each_object_has_as_many_queries_as_copies(copies):
    found, objects = instances(12, 3)
    result = RepeatedHungarianAssigner(copies, match_costs=COSTS).assign(found, objects, META)
    used = result.gt_inds[result.gt_inds > 0]
    assert result.num_gts == 3 and torch.bincount(used)[1:].tolist() == [copies] * 3
    assert torch.equal(result.labels[result.gt_inds > 0], objects.labels[used - 1])
    assert (result.labels[result.gt_inds == 0] == -1).all()


def test_a_single_object_has_its_best_queries():
    found, objects = instances(9, 1)
    assigner = RepeatedHungarianAssigner(4, match_costs=COSTS)
    cost = sum(each(pred_instances=found, gt_instances=objects, img_meta=META) for each in assigner.match_costs)[:, 0]
    result = assigner.assign(found, objects, META)
    assert set(result.gt_inds.nonzero()[:, 0].tolist()) == set(cost.argsort()[:4].tolist())


@pytest.mark.parametrize(('queries', 'objects', 'expected'), [(7, 3, 2), (4, 3, 1), (3, 5, 1), (6, 0, 0)])
def test_more_copies_than_queries(queries, objects, expected):
    found, truth = instances(queries, objects)
    result = RepeatedHungarianAssigner(4, match_costs=COSTS).assign(found, truth, META)
    counts = torch.bincount(result.gt_inds, minlength=objects + 1)[1:]
    assert (counts.max() if objects else 0) == expected
    if expected <= 1:
        other = HungarianAssigner(COSTS).assign(found, truth, META)
        assert torch.equal(result.gt_inds, other.gt_inds) and torch.equal(result.labels, other.labels)
