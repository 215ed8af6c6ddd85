import math

import pytest
import torch

from benchmarks.reference_yolov5_loss import _complete_iou
from vitdet_plugin.heads.yolov5_loss import complete_iou


def test_ciou_of_two_boxes_by_hand():
    box, target = torch.tensor([1.0, 1.0, 2.0, 2.0]), torch.tensor([2.0, 1.0, 2.0, 1.0])
    iou, distance = 1 / 5, 1 / 13
    v = 4 / math.pi ** 2 * (math.atan(2) - math.atan(1)) ** 2
    assert _complete_iou(box, target).item() == pytest.approx(iou - distance - v / (1 - iou + v) * v, abs=1e-6)


def test_ciou_of_the_head_has_the_same_values_and_gradients():
    generator = torch.Generator().manual_seed(0)
    boxes, targets = (torch.rand(20, 4, generator=generator) + 0.1 for _ in range(2))
    boxes.requires_grad_()
    ours = complete_iou(boxes, targets)
    ours.sum().backward()
    grad, boxes.grad = boxes.grad, None
    reference = torch.stack([_complete_iou(*pair) for pair in zip(boxes, targets)])
    reference.sum().backward()
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(grad, boxes.grad, atol=1e-4, rtol=1e-3)
