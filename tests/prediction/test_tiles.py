"""Tiles cover an image, and what is found in them is merged to each object once."""

import numpy as np
import pytest

from vitdet_plugin.errors import UserError
from vitdet_plugin.prediction.tiles import Tiling, merge_tiles
from vitdet_plugin.runtime.model import Found
from vitdet_plugin.utils.mask_rle import decode_mask, encode_masks


@pytest.mark.parametrize('shape', [(100, 100), (101, 64), (250, 999), (64, 640), (1000, 65)])
@pytest.mark.parametrize('overlap', [0, 0.2, 0.5])
def test_tiles_cover_the_image_with_the_overlap(shape, overlap):
    *tiles, whole = Tiling(64, overlap).windows(shape)
    assert whole == (0, 0, shape[1], shape[0])
    covered = np.zeros(shape, int)
    for x1, y1, x2, y2 in tiles:
        assert (x2 - x1, y2 - y1) == (min(64, shape[1]), min(64, shape[0])) and x2 <= shape[1] and y2 <= shape[0]
        covered[y1:y2, x1:x2] += 1
    assert covered.all()
    for starts in (sorted({tile[0] for tile in tiles}), sorted({tile[1] for tile in tiles})):
        assert all(after - before <= 64 - int(64 * overlap) for before, after in zip(starts, starts[1:]))
    assert Tiling(64).windows((64, 20)) == []


def look(boxes, labels, window, rng, with_masks):
    """What a detector without errors finds in a window: the visible part of every object of at least 3 pixels."""
    x1, y1, x2, y2 = window
    clipped = np.concatenate([boxes[:, :2].clip((x1, y1), (x2, y2)), boxes[:, 2:].clip((x1, y1), (x2, y2))], 1)
    seen = ((clipped[:, 2:] - clipped[:, :2]) >= 3).all(1)
    local = (clipped[seen] - [x1, y1, x1, y1]).astype(np.float32)
    masks = np.zeros((len(local), y2 - y1, x2 - x1), bool)
    for mask, box in zip(masks, local.astype(int)):
        mask[box[1]:box[3], box[0]:box[2]] = True
    return Found(local, rng.uniform(0.4, 0.9, len(local)).astype(np.float32), labels[seen],
                 encode_masks(masks) if with_masks else None)


@pytest.mark.parametrize('with_masks', [False, True])
def test_every_object_is_found_once_and_whole(with_masks):
    """Small objects that touch, objects at the edges of tiles, and one that is larger than a tile."""
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(np.arange(0, 290, 12), np.arange(0, 190, 12)), -1).reshape(-1, 2)
    small = np.concatenate([corners, corners + 12], 1)[rng.random(len(corners)) < 0.4]
    boxes = np.concatenate([small, [[20, 30, 220, 170]]]).astype(float)
    labels = np.concatenate([rng.integers(0, 2, len(small)), [2]])
    tiling, shape = Tiling(100, 0.2), (200, 301)
    windows = tiling.windows(shape)
    merged = merge_tiles([look(boxes, labels, window, rng, with_masks) for window in windows], windows, shape, tiling)
    assert (np.diff(merged.scores) <= 0).all()
    order, expected = (np.lexsort((*each.T, names)) for each, names in ((merged.boxes, merged.labels), (boxes, labels)))
    np.testing.assert_array_equal(merged.labels[order], labels[expected])
    np.testing.assert_allclose(merged.boxes[order], boxes[expected])
    if with_masks:
        for box, rle in zip(merged.boxes.astype(int), merged.rles):
            mask = decode_mask(rle)
            assert mask.shape == shape and mask.sum() == (box[2] - box[0]) * (box[3] - box[1])
            assert mask[box[1]:box[3], box[0]:box[2]].all()


def test_other_classes_and_objects_of_the_same_tile_are_kept():
    box = np.array([[10, 10, 30, 30]], np.float32)
    near = box + np.float32(2)
    tiling, windows = Tiling(64), Tiling(64).windows((64, 100))
    twice = Found(np.concatenate([box, near]), np.array([.9, .8], np.float32), np.array([0, 0]))
    nothing = Found(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert len(merge_tiles([twice, nothing, nothing], windows, (64, 100), tiling)) == 2
    inner = [np.array([[44 - window[0], 10, 60 - window[0], 30]], np.float32) for window in windows[:2]]
    for labels, count in (((0, 0), 1), ((0, 1), 2)):
        parts = [Found(each, np.array([.5], np.float32), np.array([label])) for each, label in zip(inner, labels)]
        assert len(merge_tiles([*parts, nothing], windows, (64, 100), tiling)) == count
    assert len(merge_tiles([nothing] * 3, windows, (64, 100), tiling)) == 0


@pytest.mark.parametrize('size, overlap, says', [(8, 0.2, 'tile=8: give the side'), (64, 1.0, 'overlap=1: give a part'),
                                                 (64, -0.1, 'overlap=-0.1')])
def test_wrong_values_are_one_line(size, overlap, says):
    with pytest.raises(UserError, match=says):
        Tiling(size, overlap)
