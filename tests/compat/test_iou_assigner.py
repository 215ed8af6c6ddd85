"""``MaxIoUAssigner`` without waits for the GPU, against mmdet's."""

import pytest
import torch
from mmdet.models.task_modules.assigners import MaxIoUAssigner, iou2d_calculator
from mmengine.structures import InstanceData


def boxes_of(count, generator):
    """Corners at a few whole pixels, so that many overlaps are equal, some at a threshold, and some boxes are empty."""
    corner = torch.randint(0, 12, (count, 2), generator=generator)
    return torch.cat([corner, corner + torch.randint(0, 9, (count, 2), generator=generator)], 1).float()


@pytest.mark.parametrize('settings', [
    dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False),
    dict(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3),
    dict(pos_iou_thr=0.7, neg_iou_thr=(0.1, 0.3), min_pos_iou=0.0),
    dict(pos_iou_thr=0.6, neg_iou_thr=0.4, min_pos_iou=0.2, gt_max_assign_all=False),
    dict(pos_iou_thr=0.5, neg_iou_thr=0.5, ignore_iof_thr=0.5, match_low_quality=False)])
@pytest.mark.parametrize(('boxes', 'objects'), [(300, 20), (300, 1), (50, 0), (0, 5), (0, 0)])
def test_the_result_is_that_of_mmdet(settings, boxes, objects, monkeypatch):
    assigner = MaxIoUAssigner(**settings)
    generator = torch.Generator().manual_seed(boxes + objects)
    priors = InstanceData(priors=boxes_of(boxes, generator))
    instances = InstanceData(bboxes=boxes_of(objects, generator),
                             labels=torch.randint(0, 80, (objects,), generator=generator))
    ignored = InstanceData(bboxes=boxes_of(3, generator))
    found = assigner.assign(priors, instances, ignored)
    monkeypatch.setattr(MaxIoUAssigner, 'assign_wrt_overlaps', MaxIoUAssigner.assign_wrt_overlaps.__wrapped__)
    monkeypatch.setattr(iou2d_calculator, 'bbox_overlaps', iou2d_calculator.bbox_overlaps.__wrapped__)
    expected = assigner.assign(priors, instances, ignored)
    assert found.num_gts == expected.num_gts
    for name in ('gt_inds', 'max_overlaps', 'labels'):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


@pytest.mark.parametrize('mode', ['iou', 'iof', 'giou'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.float64])
def test_overlaps_are_those_of_mmdet(mode, dtype):
    generator = torch.Generator().manual_seed(0)
    first, second = boxes_of(30, generator).to(dtype), boxes_of(20, generator).to(dtype)
    overlaps = iou2d_calculator.bbox_overlaps
    torch.testing.assert_close(overlaps(first, second, mode), overlaps.__wrapped__(first, second, mode), rtol=0, atol=0)
