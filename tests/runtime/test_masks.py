"""Masks are those of mmdet and pycocotools."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from vitdet_plugin.prediction.compact_masks import paste_mask as paste_with_torch
from vitdet_plugin.runtime.masks import decode_mask, encode_region, mask_area, paste_mask

SHAPE = (37, 53)


@pytest.mark.parametrize('seed', range(5))
def test_pasted_masks_are_those_of_mmdet(seed):
    random = np.random.default_rng(seed)
    for _ in range(10):
        start = random.uniform(-8, 34, 2)
        box = np.array([*start, *(start + random.uniform(9, 30, 2))], np.float32)
        mask = random.random((14, 14), np.float32)
        expected = paste_with_torch(torch.from_numpy(mask), torch.from_numpy(box), SHAPE, 0.5)
        found = paste_mask(mask, box, SHAPE, 0.5)
        assert found['size'] == list(SHAPE) and abs(mask_area(found) - coco.area(expected)) <= 1
        assert (decode_mask(found) != coco.decode(expected)).sum() <= 1


def test_boxes_without_extent_and_outside():
    for box in ([5, 5, 5, 9], [60, 5, 70, 9], [-9, -9, -5, -5], [5, 5, 5, 5]):
        rle = paste_mask(np.ones((4, 4), np.float32), np.array(box, np.float32), SHAPE, 0.5)
        assert decode_mask(rle).shape == SHAPE


@pytest.mark.parametrize('share', [0, 0.02, 0.5, 0.98, 1])
def test_rle_is_that_of_coco(share):
    random = np.random.default_rng(0)
    for shape in ((1, 1), (5, 9), (300, 400)):
        mask = random.random(shape) < share
        rle = encode_region(mask, 0, 0, shape)
        expected = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
        assert rle['counts'] == expected['counts'].decode() and mask_area(rle) == mask.sum()
        np.testing.assert_array_equal(decode_mask(rle), mask)
