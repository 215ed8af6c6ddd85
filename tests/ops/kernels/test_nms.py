"""Non-maximum suppression by Triton against torchvision."""

import pytest
import torch

from tests.devices import requires_triton
from vitdet_plugin.ops.nms import nms, nms_of_images

pytestmark = requires_triton


def boxes_of(count, side=60, seed=0):
    """Boxes (N, 4) with corners at whole pixels, and scores (N,) of which many are equal."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(0, side, (count, 2), generator=generator)
    size = torch.randint(1, 20, (count, 2), generator=generator)
    scores = torch.randint(0, 40, (count,), generator=generator) / 40
    return torch.cat([corner, corner + size], 1).float(), scores


@pytest.mark.parametrize(('count', 'threshold'), [(0, 0.5), (1, 0.5), (63, 0.3), (64, 0.51), (65, 0.7), (300, 0.314),
                                                  (700, 0.0)])
def test_the_same_boxes_in_the_same_order(device, count, threshold):
    boxes, scores = boxes_of(count)
    found = nms(boxes.to(device), scores.to(device), threshold, 'triton')
    assert found.dtype == torch.int64
    assert found.tolist() == nms(boxes, scores, threshold, 'torchvision').tolist()


def test_empty_boxes_remove_none_and_equal_ones_do(device):
    boxes = torch.tensor([[5.0, 5, 5, 5], [5, 5, 5, 5], [1, 1, 9, 9], [1, 1, 9, 9], [20, 20, 10, 10]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    expected = nms(boxes, scores, 0.5, 'torchvision').tolist()
    assert nms(boxes.to(device), scores.to(device), 0.5, 'triton').tolist() == expected == [0, 1, 2, 4]


def test_a_chain_over_several_blocks(device):
    """Each box overlaps the next one only, so that every second one is kept."""
    start = torch.arange(0, 2000, 5.0)
    boxes = torch.stack([start, torch.zeros(400), start + 8, torch.full((400,), 8.0)], 1)
    kept = nms(boxes.to(device), torch.linspace(1, 0, 400).to(device), 0.2, 'triton')
    assert kept.tolist() == list(range(0, 400, 2))


@pytest.mark.parametrize('counts', [(70, 70, 70), (1,), (0, 0)])
def test_several_images_at_once(device, counts):
    images = [boxes_of(count, seed=seed) for seed, count in enumerate(counts)]
    boxes, scores = (torch.stack(each).to(device) for each in zip(*images))
    found = {name: nms_of_images(boxes, scores, 0.314, name) for name in ('triton', 'torchvision')}
    for i, (own_boxes, own_scores) in enumerate(images):
        expected = nms(own_boxes, own_scores, 0.314, 'torchvision').tolist()
        for order, kept in found.values():
            assert order[i][kept[i]].tolist() == expected
