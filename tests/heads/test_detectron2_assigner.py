"""detectron2's assignment of objects to anchors, compared with loops over all pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmengine.structures import InstanceData

from vitdet_plugin.heads import detectron2_assigner
from vitdet_plugin.heads.detectron2_assigner import Detectron2Assigner

pairwise_iou = detectron2_assigner._pairwise_iou


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return width * height / (areas - width * height) if width * height else 0.0


def assign_in_loops(boxes, objects, high, low, match_low_quality):
    """For each box: the object + 1, 0 for background and -1 for ignored."""
    ious = [[iou(box, each) for each in objects] for box in boxes]
    best = [max(row[j] for row in ious) for j in range(len(objects))] if boxes else []
    result = []
    for row in ious:
        highest = max(row, default=0.0)
        positive = highest >= high
        if match_low_quality:
            positive |= any(value == top > 0 for value, top in zip(row, best))
        result.append(row.index(highest) + 1 if positive else 0 if highest < low else -1)
    return result


def assign(boxes, objects, high=0.7, low=0.3, labels=None, **kwargs):
    objects = torch.tensor(objects, dtype=torch.float64).reshape(-1, 4)
    labels = torch.arange(len(objects)) + 10 if labels is None else labels
    return Detectron2Assigner(high, low, **kwargs).assign(
        InstanceData(priors=torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)),
        InstanceData(bboxes=objects, labels=labels))


# on a coarse grid, equal overlaps are frequent
box = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6)).map(
    lambda s: [s[0], s[1], s[0] + s[2], s[1] + s[3]])


@given(boxes=st.lists(box, max_size=12), objects=st.lists(box, max_size=6), match=st.booleans(),
       low=st.sampled_from([0.2, 0.5]), elements=st.integers(1, 80))
@settings(max_examples=150)
def test_equal_to_loops(boxes, objects, match, low, elements):
    found = assign(boxes, objects, high=0.5, low=low, match_low_quality=match, max_elements=elements)
    assert found.gt_inds.tolist() == assign_in_loops(boxes, objects, 0.5, low, match)
    assert found.labels.tolist() == [index + 9 if index > 0 else -1 for index in found.gt_inds.tolist()]
    highest = [max((iou(box, each) for each in objects), default=0.0) for box in boxes]
    assert found.max_overlaps.tolist() == pytest.approx(highest)
    assert found.num_gts == len(objects)


def test_a_small_object_gets_its_best_anchors_unlike_in_mmdet():
    anchors = torch.cat(AnchorGenerator(scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8]).grid_priors(
        [(32, 32), (16, 16)], device='cpu'))
    small = InstanceData(bboxes=torch.tensor([[50.0, 50, 56, 57]]), labels=torch.tensor([3]))
    assert not (MaxIoUAssigner(0.7, 0.3, 0.3).assign(InstanceData(priors=anchors), small).gt_inds > 0).any()
    found = Detectron2Assigner(0.7, 0.3).assign(InstanceData(priors=anchors), small)
    assert (found.gt_inds > 0).any() and (found.gt_inds >= 0).all()


def test_the_best_anchor_of_an_object_stays_with_the_object_it_overlaps_more():
    anchor, larger, smaller = [0, 0, 10, 10], [0, 0, 10, 9], [2, 2, 6, 6]
    assert assign([anchor], [larger, smaller]).gt_inds.tolist() == [1]
    boxes, objects = torch.tensor([anchor]).double(), torch.tensor([larger, smaller]).double()
    theirs = MaxIoUAssigner(0.7, 0.3, 0.0).assign(
        InstanceData(priors=boxes), InstanceData(bboxes=objects, labels=torch.zeros(2, dtype=torch.long)))
    assert theirs.gt_inds.tolist() == [2]


def test_an_object_without_overlap_or_area_does_not_make_other_anchors_positive():
    found = assign([[0, 0, 10, 10], [20, 20, 30, 30]], [[5, 5, 5, 5], [90, 90, 99, 99]])
    assert found.gt_inds.tolist() == [0, 0]


def test_without_objects_everything_is_background():
    found = assign([[0, 0, 10, 10], [20, 20, 30, 30]], [])
    assert found.gt_inds.tolist() == [0, 0] and found.labels.tolist() == [-1, -1]


def test_float16_boxes_are_compared_in_their_own_type_of_anchors():
    anchors = InstanceData(priors=torch.tensor([[0.0, 0, 1000, 1000], [0, 0, 500, 1000]]))
    objects = InstanceData(bboxes=torch.tensor([[0, 0, 990, 1000]], dtype=torch.float16), labels=torch.tensor([0]))
    assert Detectron2Assigner(0.7, 0.3).assign(anchors, objects).gt_inds.tolist() == [1, -1]


def test_the_limit_of_memory_does_not_change_the_result(monkeypatch):
    anchors = torch.cat(AnchorGenerator(scales=[8], ratios=[0.5, 1.0, 2.0], strides=[8, 16, 32]).grid_priors(
        [(32, 32), (16, 16), (8, 8)], device='cpu'))
    generator = torch.Generator().manual_seed(0)
    corner, side = torch.rand(40, 2, generator=generator) * 200, torch.rand(40, 2, generator=generator) * 50 + 3
    objects = InstanceData(bboxes=torch.cat((corner, corner + side), 1), labels=torch.arange(40))
    at_once = []

    def counted(some, corners):
        at_once.append(len(some))
        return pairwise_iou(some, corners)

    monkeypatch.setattr(detectron2_assigner, '_pairwise_iou', counted)
    found = {limit: Detectron2Assigner(0.7, 0.3, max_elements=limit).assign(InstanceData(priors=anchors), objects)
             for limit in (40 * len(anchors), 7 * len(anchors), 1)}
    assert at_once == [40] + [7] * 5 + [5] + [1] * 40
    first, *others = found.values()
    assert (first.gt_inds > 0).any()
    for other in others:
        assert torch.equal(other.gt_inds, first.gt_inds) and torch.equal(other.max_overlaps, first.max_overlaps)
