"""Targets of the mask head, the largest part of the host's work in a training step of Mask R-CNN.

Both sides get the same images with 7 objects and 128 positive boxes each.
"""

from collections.abc import Iterable
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures import DetDataSample
from mmdet.structures.mask import PolygonMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from benchmarks.harness import Row, compare
from vitdet_plugin.heads.batched_mask_head import BatchedMaskHead

SIDE = 1024
OBJECTS, POSITIVE = 7, 128
GOAL = 3.0


def rows(quick: bool) -> Iterable[Row | None]:
    for form, each, images in (('polygons', 'box', 8), ('bitmaps', 'image', 2)):
        images = 1 if quick else images
        yield compare(f'mask targets, {images} images, {form}', f'for each {each}',
                      partial(_targets, BatchedMaskHead, form, images), partial(_targets, FCNMaskHead, form, images),
                      tolerance=0, time_goal=GOAL if form == 'polygons' else None, memory=False)


def samples(images: int, form: str) -> tuple[list[DetDataSample], list[torch.Tensor], list[torch.Tensor]]:
    """Make images with star-shaped objects of one or two parts and 3 to 40 vertices each.

    Args:
        images: Number of images.
        form: 'polygons' or 'bitmaps'.

    Returns:
        The samples, :data:`POSITIVE` boxes near objects of each image (n, 4), and the indices of those objects (n,).
    """
    random = np.random.default_rng(0)
    found, boxes, indices = [], [], []
    for _ in range(images):
        objects = [[_star(random) for _ in range(random.choice([1, 1, 1, 2]))] for _ in range(OBJECTS)]
        points = [np.concatenate(each).reshape(-1, 2) for each in objects]
        bounds = np.array([[*each.min(0), *each.max(0)] for each in points], np.float32)
        masks = PolygonMasks(objects, SIDE, SIDE)
        sample = DetDataSample(metainfo=dict(img_shape=(SIDE, SIDE), pad_shape=(SIDE, SIDE)))
        sample.gt_instances = InstanceData(bboxes=torch.from_numpy(bounds),
                                           labels=torch.from_numpy(random.integers(0, 80, OBJECTS)),
                                           masks=masks if form == 'polygons' else masks.to_bitmap())
        found.append(sample)
        index = random.integers(0, OBJECTS, POSITIVE)
        sides = np.tile(bounds[index, 2:] - bounds[index, :2], 2)
        boxes.append(torch.from_numpy((bounds[index] + sides * random.normal(0, 0.08, sides.shape)).astype(np.float32)))
        indices.append(torch.from_numpy(index))
    return found, boxes, indices


def _star(random: np.random.Generator) -> np.ndarray:
    count, reach = random.integers(3, 40), 10 + 150 * random.random()
    angle, radius = np.sort(random.random(count)) * 2 * np.pi, reach * (0.5 + 0.5 * random.random(count))
    center = reach + random.random(2) * (SIDE - 2 * reach)
    return (center + np.stack([np.cos(angle), np.sin(angle)], 1) * radius[:, None]).round(2).reshape(-1)


def _targets(head_type, form: str, images: int):
    found, boxes, indices = samples(images, form)
    head, cfg = head_type(num_convs=1, in_channels=4, conv_out_channels=4), ConfigDict(mask_size=28)
    sampled = [SimpleNamespace(pos_priors=box, pos_assigned_gt_inds=index) for box, index in zip(boxes, indices)]
    objects = [sample.gt_instances for sample in found]
    return lambda: head.get_targets(sampled, objects, cfg)
