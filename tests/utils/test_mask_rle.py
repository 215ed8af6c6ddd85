"""RLE of whole images and of regions equals what pycocotools encodes."""

import numpy as np
import pytest
from pycocotools import mask as mask_utils

from vitdet_plugin.utils.mask_rle import RleMasks, decode_mask, encode_masks, encode_region, mask_areas, move_rle


@pytest.mark.parametrize('left, top, width, height', [(0, 0, 9, 7), (2, 1, 4, 3), (0, 0, 3, 7), (4, 0, 5, 7),
                                                      (3, 2, 1, 1), (0, 3, 9, 4), (2, 2, 0, 3)])
@pytest.mark.parametrize('fill', ['noise', 'full', 'empty'])
def test_a_region_is_the_mask_of_the_whole_image(left, top, width, height, fill):
    region = dict(noise=np.random.default_rng(0).random((height, width)) < 0.6, full=np.ones((height, width), bool),
                  empty=np.zeros((height, width), bool))[fill]
    mask = np.zeros((7, 9), bool)
    mask[top:top + height, left:left + width] = region
    expected = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    rle = encode_region(region, left, top, (7, 9))
    assert rle == dict(size=[7, 9], counts=expected['counts'].decode())
    assert (decode_mask(rle) == mask).all()


def test_moving_into_a_larger_image():
    mask = np.random.default_rng(1).random((5, 6)) < 0.5
    moved = decode_mask(move_rle(encode_masks(mask[None])[0], 3, 2, (8, 10)))
    expected = np.zeros((8, 10), bool)
    expected[2:7, 3:9] = mask
    assert (moved == expected).all()
    empty = encode_masks(np.zeros((1, 5, 6), bool))[0]
    assert not decode_mask(move_rle(empty, 3, 2, (8, 10))).any()


def test_masks_are_decoded_one_at_a_time():
    masks = np.random.default_rng(2).random((4, 5, 6)) < 0.5
    rles = encode_masks(masks)
    lazy = RleMasks(rles)
    assert len(lazy) == 4 and (np.stack(list(lazy)) == masks).all() and (lazy[2] == masks[2]).all()
    keep = np.array([True, False, False, True])
    assert (np.stack(list(lazy[keep])) == masks[keep]).all()
    assert mask_areas(rles).tolist() == masks.sum((1, 2)).tolist() and len(mask_areas([])) == 0
