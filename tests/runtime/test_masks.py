"""Masks are those of mmdet and pycocotools."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from vitdet_plugin.export.pasting import paste
from vitdet_plugin.runtime.masks import decode_mask, encode_region, mask_area, paste_mask, paste_region

SHAPE = (37, 53)


@pytest.mark.parametrize('seed', range(5))
def test_pasted_masks_are_those_of_mmdet(seed):
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
    random = np.random.default_rng(seed)
    for _ in range(10):
        start = random.uniform(-8, 34, 2)
        box = np.array([*start, *(start + random.uniform(9, 30, 2))], np.float32)
        mask = random.random((14, 14), np.float32)
        tensors = torch.from_numpy(mask)[None, None], torch.from_numpy(box)[None]
        expected = _do_paste_mask(*tensors, *SHAPE, skip_empty=False)[0][0].numpy()
        whole = np.zeros(SHAPE, np.float32)
        region, left, top = paste_region(mask, box, SHAPE)
        whole[top:top + region.shape[0], left:left + region.shape[1]] = region
        np.testing.assert_allclose(whole, expected, atol=1e-5)
        pasted, is_sure = decode_mask(paste_mask(mask, box, SHAPE, 0.5)), np.abs(expected - 0.5) > 1e-5
        np.testing.assert_array_equal(pasted[is_sure], (expected >= 0.5)[is_sure])
        of_graph = paste(tensors[0][0], tensors[1], SHAPE, 0.5)[0].numpy()
        np.testing.assert_array_equal(of_graph[is_sure], pasted[is_sure])


def test_boxes_without_extent_and_outside():
    for box in ([5, 5, 5, 9], [60, 5, 70, 9], [-9, -9, -5, -5], [5, 5, 5, 5], [np.nan, 5, 9, 9], [5, 5, np.inf, 9]):
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
