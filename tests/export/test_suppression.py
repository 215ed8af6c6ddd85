"""Suppression of a batch with a fixed number of rows."""

import pytest
import torch

from vitdet_plugin.export import suppression
from vitdet_plugin.export.settings import NmsSettings
from vitdet_plugin.export.suppression import best_after_nms


def test_nms_keeps_the_number_of_rows():
    boxes = torch.tensor([[[0., 0, 10, 10], [1, 0, 11, 10], [1, 0, 11, 10], [50, 50, 60, 60]]])
    scores, groups = torch.tensor([[0.5, 0.9, 0.3, 0.0]]), torch.tensor([[2, 2, 1, 0]])
    found = best_after_nms(boxes, scores, groups, NmsSettings(0.5), 6)
    assert torch.equal(found[0], torch.cat([boxes[:, [1, 2]], torch.zeros(1, 4, 4)], 1))
    assert found[1][0].tolist() == pytest.approx([0.9, 0.3, 0, 0, 0, 0])
    assert found[2][0].tolist() == [2, 1, -1, -1, -1, -1]


@pytest.mark.parametrize('class_agnostic', [True, False])
def test_images_of_a_batch_are_independent(class_agnostic, monkeypatch):
    random, nms = torch.Generator().manual_seed(0), NmsSettings(0.4, class_agnostic)
    corners = 60 * torch.rand(3, 50, 2, generator=random) - 5
    boxes = torch.cat([corners, corners + 30 * torch.rand(3, 50, 2, generator=random)], 2)
    boxes[1] *= 10  # of another extent
    scores, groups = torch.rand(3, 50, generator=random), torch.randint(0, 4, (3, 50), generator=random)
    alone = [best_after_nms(*(each[i:i + 1] for each in (boxes, scores, groups)), nms, 30) for i in range(3)]
    expected = [torch.cat(parts) for parts in zip(*alone)]
    together = best_after_nms(boxes, scores, groups, nms, 30)
    monkeypatch.setattr(suppression, 'may_vary', lambda *sizes: True)
    in_one_call = best_after_nms(boxes, scores, groups, nms, 30)
    with suppression.with_operator():
        by_the_operator = best_after_nms(boxes, scores, groups, nms, 30)
    for found in (together, in_one_call, by_the_operator):
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)
