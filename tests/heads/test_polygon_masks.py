"""Objects drawn inside boxes, against pycocotools."""

import numpy as np
import pycocotools.mask
import pytest
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from vitdet_plugin.heads.batched_mask_head import BatchedMaskHead
from vitdet_plugin.heads.polygon_masks import draw_in_boxes


def drawn_by_pycocotools(objects, indices, boxes, height, width, smallest_side):
    drawn = []
    for index, (x1, y1, x2, y2) in zip(indices, boxes):
        scale = [np.float32(size) / np.maximum(side, np.float32(smallest_side))
                 for size, side in ((width, x2 - x1), (height, y2 - y1))]
        polygons = [((polygon.reshape(-1, 2) - [x1, y1]) * scale).reshape(-1) for polygon in objects[index]]
        drawn.append(pycocotools.mask.decode(pycocotools.mask.merge(
            pycocotools.mask.frPyObjects(polygons, height, width))))
    return np.stack(drawn)


def outline(rng, count):
    angle = np.sort(rng.random(count)) * 2 * np.pi
    radius = (10 + rng.random() * 200) * (0.4 + 0.6 * rng.random(count))
    return rng.random(2) * 600 + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]


def objects_and_boxes(seed):
    """Objects of one to three parts: stars, crossing lines, whole numbers, repeated and two points; boxes near them."""
    rng = np.random.default_rng(seed)
    objects = []
    for kind in range(12):
        parts = [outline(rng, rng.integers(3, 40)) for _ in range(rng.integers(1, 4))]
        if kind % 4 == 1:
            rng.shuffle(parts[0])
        if kind % 4 == 2:
            parts = [part.round() for part in parts]
        if kind % 4 == 3:
            parts = [np.repeat(part, 2, 0) for part in parts] + [parts[0][:3]]
        objects.append([part.reshape(-1) for part in parts])
    indices = rng.integers(0, len(objects), 150)
    points = [np.concatenate(each).reshape(-1, 2) for each in objects]
    boxes = np.array([[*points[i].min(0), *points[i].max(0)] for i in indices])
    boxes += np.tile(boxes[:, 2:] - boxes[:, :2], 2) * rng.normal(0, 0.3, boxes.shape)
    boxes[::5] = boxes[::5].round()
    boxes[::7, 2:] = boxes[::7, :2] + [28, 14]  # scales of 1 and 2: vertices on the grid
    boxes[::11, 2:] = boxes[::11, :2] + [0.05, 0.7]
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    return objects, indices, boxes.astype(np.float32)


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize(('height', 'width', 'smallest_side'), [
    (28, 28, 0.1), (28, 28, 1.0), (5, 17, 1.0), (1, 1, 1.0)])
def test_every_pixel_is_that_of_pycocotools(seed, height, width, smallest_side):
    objects, indices, boxes = objects_and_boxes(seed)
    found = draw_in_boxes(objects, indices, boxes, height, width, smallest_side)
    expected = drawn_by_pycocotools(objects, indices, boxes, height, width, smallest_side)
    assert found.dtype == np.uint8 and 0.1 < expected.mean() < 0.9
    np.testing.assert_array_equal(found, expected)


def test_parts_without_points_and_objects_without_parts():
    square = np.array([0.0, 0, 4, 0, 4, 4, 0, 4])
    objects = [[square, np.zeros(0)], [], [np.zeros(0), square]]
    found = draw_in_boxes(objects, np.array([2, 1, 0]), np.array([[0, 0, 8, 4]] * 3, np.float32), 4, 4, 1.0)
    assert found[0, :, :2].all() and not found[0, :, 2:].any() and not found[1].any()
    assert np.array_equal(found[0], found[2])
    assert draw_in_boxes(objects, np.array([1]), np.zeros((1, 4), np.float32), 4, 4, 1.0).shape == (1, 4, 4)
    assert draw_in_boxes([], np.zeros(0, int), np.zeros((0, 4), np.float32), 4, 6, 1.0).shape == (0, 4, 6)


def sampled(boxes, indices):
    result = SamplingResult.__new__(SamplingResult)
    result.pos_priors, result.pos_assigned_gt_inds = torch.tensor(boxes), torch.tensor(indices)
    return result


@pytest.mark.parametrize('kind', [PolygonMasks, BitmapMasks])
def test_targets_of_several_images_are_those_of_mmdet(kind):
    """Boxes reach beyond the images; one image has no positive box, and one no object."""
    images, samples = [], []
    for seed, (height, width) in enumerate([(600, 500), (300, 700), (64, 64), (400, 400)]):
        objects, indices, boxes = objects_and_boxes(seed)
        count = (40, 30, 0, 0)[seed]
        masks = PolygonMasks(objects if seed != 2 else [], height, width)
        images.append(InstanceData(masks=masks if kind is PolygonMasks else masks.to_bitmap()))
        samples.append(sampled(boxes[:count], indices[:count]))
    cfg = ConfigDict(mask_size=28)
    ours, theirs = (head(num_convs=1, in_channels=4, conv_out_channels=4).get_targets(samples, images, cfg)
                    for head in (BatchedMaskHead, FCNMaskHead))
    assert ours.shape == (70, 28, 28) and 0.1 < theirs.mean() < 0.9
    assert torch.equal(ours, theirs)


def test_soft_targets_are_those_of_mmdet():
    objects, indices, boxes = objects_and_boxes(0)
    images = [InstanceData(masks=PolygonMasks(objects, 600, 600).to_bitmap())]
    cfg = ConfigDict(mask_size=14, soft_mask_target=True)
    ours, theirs = (head(num_convs=1, in_channels=4, conv_out_channels=4).get_targets(
        [sampled(boxes[:20], indices[:20])], images, cfg) for head in (BatchedMaskHead, FCNMaskHead))
    assert torch.equal(ours, theirs) and not torch.equal(ours, ours.round())
