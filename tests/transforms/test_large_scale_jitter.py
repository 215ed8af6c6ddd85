"""Large-scale jitter against a reference that mirrors, resizes and crops whole images and masks."""

import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmdet.registry import TRANSFORMS as MMDET_TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from PIL import Image
from pycocotools import mask as mask_utils

from vitdet_plugin.errors import UserError
from vitdet_plugin.transforms.large_scale_jitter import LargeScaleJitter


def _star(rng, height, width):
    angle = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    radius = rng.uniform(3, 0.5 * max(height, width), (9, 1))
    center = rng.uniform(0, (width, height))
    points = center + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    return points.clip(0, (width, height)).reshape(-1)


def _rasterize(polygons, height, width):
    return mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects([p.tolist() for p in polygons], height, width)))


def _sample(seed, height, width, count, kind):
    """Results of LoadImageFromFile and LoadAnnotations; some instances have two parts, some are ignored."""
    rng = np.random.default_rng(seed)
    polygons = [[_star(rng, height, width) for _ in range(1 + rng.integers(2))] for _ in range(count)]
    points = [np.concatenate(parts).reshape(-1, 2) for parts in polygons]
    boxes = np.array([[*p.min(0), *p.max(0)] for p in points], np.float32).reshape(-1, 4)
    results = {
        'img': rng.integers(0, 256, (height, width, 3), dtype=np.uint8), 'img_shape': (height, width),
        'ori_shape': (height, width), 'gt_bboxes': HorizontalBoxes(boxes),
        'gt_bboxes_labels': np.arange(count), 'gt_ignore_flags': rng.random(count) < 0.2,
    }
    if kind == 'polygon':
        results['gt_masks'] = PolygonMasks(polygons, height, width)
    elif kind == 'bitmap':
        results['gt_masks'] = BitmapMasks([_rasterize(p, height, width) for p in polygons], height, width)
    return results


def _draws(seed):
    np.random.seed(seed)
    return np.random.uniform() < 0.5, np.random.uniform(0.1, 2.0), np.random.uniform()


def _scaled_size_and_offset(shape, side, scale, position):
    """The arithmetic of the reference, step by step."""
    factor = min(side * scale / shape[0], side * scale / shape[1])
    size = tuple(max(1, int(np.round(length * factor))) for length in shape)
    return size, tuple(int(np.round(max(length - side, 0) * position)) for length in size)


def _nearest(length, scaled, start, count):
    """Nearest source pixels of a cropped axis; a position between two pixels may be rounded either way."""
    positions = (start + np.arange(count) + 0.5) * length / scaled
    return [np.clip(np.floor(positions + shift).astype(int), 0, length - 1) for shift in (-1e-3, 1e-3)]


samples = st.tuples(st.integers(0, 10**6), st.integers(20, 200), st.integers(20, 200), st.integers(0, 5))


@settings(max_examples=80)
@given(samples, st.integers(32, 160))
@example((716, 56, 116, 2), 32)  # ties along a row
@example((4, 116, 68, 2), 76)
def test_bitmaps_and_boxes_equal_the_reference(sample, side):
    seed, height, width, _ = sample
    results = _sample(*sample, 'bitmap')
    before = results['gt_masks'].masks.copy()
    flip, scale, position = _draws(seed)
    (scaled_h, scaled_w), (top, left) = _scaled_size_and_offset((height, width), side, scale, position)
    np.random.seed(seed)
    out = LargeScaleJitter(side)(results)
    expected = {}
    for label, bitmap in enumerate(before):
        bitmap = bitmap[:, ::-1] if flip else bitmap
        whole = np.asarray(Image.fromarray(bitmap).resize((scaled_w, scaled_h), Image.Resampling.NEAREST))
        expected[label] = whole[top:top + side, left:left + side]
    kept = out['gt_bboxes_labels'].tolist()
    assert out['gt_masks'].masks.shape[1:] == out['img_shape'] == out['img'].shape[:2]
    for position, label in enumerate(kept):
        found = out['gt_masks'].masks[position]
        bitmap = before[label][:, ::-1] if flip else before[label]
        rows = _nearest(height, scaled_h, top, found.shape[0])
        columns = _nearest(width, scaled_w, left, found.shape[1])
        assert np.any([found == bitmap[y][:, x] for y in rows for x in columns], axis=0).all()
        ys, xs = np.nonzero(found)
        if len(ys):
            box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_array_equal(out['gt_bboxes'].tensor[position].numpy(), box)
        else:
            assert out['gt_ignore_flags'][position]
    assert all(expected[label].sum() <= 2 for label in expected if label not in kept)


@settings(max_examples=80)
@given(samples, st.integers(32, 160))
@example((67698, 133, 154, 2), 32)  # an ignored instance outside the crop
def test_polygons_equal_the_reference(sample, side):
    seed, height, width, _ = sample
    results = _sample(*sample, 'polygon')
    before = [[polygon.reshape(-1, 2).copy() for polygon in parts] for parts in results['gt_masks'].masks]
    flip, scale, position = _draws(seed)
    (scaled_h, scaled_w), (top, left) = _scaled_size_and_offset((height, width), side, scale, position)
    np.random.seed(seed)
    out = LargeScaleJitter(side)(results)
    crop_h, crop_w = out['img_shape']
    mirror = np.array([-1, 1]) if flip else np.array([1, 1])
    factors = np.array([scaled_w / width, scaled_h / height])
    border = 2 * (crop_h + crop_w)  # polygons are rasterized to half a pixel
    kept = out['gt_bboxes_labels'].tolist()
    for label, parts in enumerate(before):
        moved = [(part * mirror + (width * flip, 0)) * factors for part in parts]
        expected = _rasterize([p.reshape(-1) for p in moved], scaled_h, scaled_w)[top:top + side, left:left + side]
        if label not in kept:
            assert expected.sum() <= border
            continue
        position = kept.index(label)
        found = _rasterize(out['gt_masks'].masks[position], crop_h, crop_w)
        assert (found != expected).sum() <= border
        points = np.concatenate(out['gt_masks'].masks[position]).reshape(-1, 2)
        assert points.min() >= 0
        assert (points.max(0) <= (crop_w, crop_h)).all()
        box = out['gt_bboxes'].tensor[position].numpy()
        assert (box[:2] >= points.min(0) - 1e-3).all()
        assert (box[2:] <= points.max(0) + 1e-3).all()


@settings(max_examples=60)
@given(samples, st.integers(32, 160), st.sampled_from(['polygon', 'bitmap', 'none']))
def test_remaining_instances_are_aligned_and_inside(sample, side, kind):
    out = LargeScaleJitter(side)(_sample(*sample, kind))
    count = len(out['gt_bboxes'])
    assert count == len(out['gt_bboxes_labels']) == len(out['gt_ignore_flags'])
    assert kind == 'none' or count == len(out['gt_masks'])
    boxes, (height, width) = out['gt_bboxes'].tensor, out['img_shape']
    assert height <= side
    assert width <= side
    if count:
        assert boxes.min() >= 0
        assert (boxes.amax(0)[[0, 2]] <= width).all()
        assert (boxes.amax(0)[[1, 3]] <= height).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize('kind', ['polygon', 'bitmap'])
def test_the_same_seed_gives_the_same_result(kind):
    transform, outs = LargeScaleJitter(96), []
    for _ in range(2):
        np.random.seed(7)
        outs.append(transform(_sample(3, 120, 90, 4, kind)))
    np.testing.assert_array_equal(outs[0]['img'], outs[1]['img'])
    assert torch.equal(outs[0]['gt_bboxes'].tensor, outs[1]['gt_bboxes'].tensor)


def test_homography_maps_the_boxes():
    for seed in range(20):
        results = _sample(seed, 100, 140, 4, 'none')
        before = results['gt_bboxes'].tensor.clone()
        np.random.seed(seed)
        out = LargeScaleJitter(128)(results)
        projected = HorizontalBoxes(before)
        projected.project_(out['homography_matrix'])
        projected.clip_(out['img_shape'])
        expected = projected.tensor[(projected.widths > 1e-3) & (projected.heights > 1e-3)]
        torch.testing.assert_close(out['gt_bboxes'].tensor, expected, atol=1e-3, rtol=0)
        assert out['scale_factor'][0] == pytest.approx(abs(out['homography_matrix'][0, 0]))


def test_arrays_of_boxes_and_semantic_maps():
    results = _sample(0, 60, 80, 3, 'none')
    results['gt_bboxes'] = results['gt_bboxes'].tensor.numpy()
    results['gt_seg_map'] = np.arange(60 * 80).reshape(60, 80)
    out = LargeScaleJitter(64)(results)
    assert isinstance(out['gt_bboxes'], np.ndarray)
    assert out['gt_seg_map'].shape == out['img_shape']


def test_ignored_region_without_a_polygon_keeps_its_box():
    results = _sample(0, 80, 80, 2, 'polygon')
    results['gt_masks'].masks[1] = [np.zeros(6)]  # placeholder of mmdet for an RLE
    results['gt_ignore_flags'] = np.array([False, True])
    results['gt_bboxes'].tensor[1] = torch.tensor([0, 0, 80, 80])
    out = LargeScaleJitter(80, scale=(1, 1), flip_prob=0)(results)
    assert out['gt_ignore_flags'].tolist() == [False, True]
    assert out['gt_bboxes'].tensor[1].tolist() == [0, 0, 80, 80]


@pytest.mark.parametrize('kind', ['polygon', 'bitmap'])
def test_ignored_region_is_removed_with_its_mask(kind):
    """The box around two parts overlaps the crop, but neither part does."""
    results = _sample(0, 80, 80, 2, 'polygon')
    parts = [np.array([60.0, 0, 80, 0, 80, 20]), np.array([0.0, 60, 20, 80, 0, 80])]
    results['gt_masks'].masks[1] = parts
    results['gt_ignore_flags'] = np.array([False, True])
    results['gt_bboxes'].tensor[1] = torch.tensor([0, 0, 80, 80])
    if kind == 'bitmap':
        results['gt_masks'] = BitmapMasks([_rasterize(p, 80, 80) for p in results['gt_masks'].masks], 80, 80)
    out = LargeScaleJitter(80, scale=(2, 2), flip_prob=0)(results)  # a random quarter along the diagonal
    assert 1 not in out['gt_bboxes_labels']


def test_image_without_instances_is_background_or_skipped():
    assert len(LargeScaleJitter(64)(_sample(0, 50, 50, 0, 'bitmap'))['gt_bboxes']) == 0
    assert LargeScaleJitter(64, skip_empty=True)(_sample(0, 50, 50, 0, 'bitmap')) is None


@pytest.mark.parametrize(('arguments', 'name'), [
    ({'resize_backend': 'turbojpeg'}, 'resize_backend'), ({'image_size': 0}, 'image_size'),
    ({'scale': (2.0, 0.1)}, r'scale\[1\]=0.1 must be a number of at least 2.0'), ({'flip_prob': 1.5}, 'flip_prob'),
    ({'scale': 3}, 'scale=3'), ({'scale': ('a', 1)}, 'scale'), ({'scale': (0, 1)}, 'scale=0'),
    ({'flip_prob': None}, 'flip_prob'), ({'min_box_size': -1}, 'min_box_size=-1'),
])
def test_invalid_arguments_are_reported(arguments, name):
    with pytest.raises(UserError, match=name):
        LargeScaleJitter(**arguments)


@pytest.mark.parametrize('poly2mask', [True, False])
def test_in_an_mmdet_pipeline_on_coco_files(tmp_path, poly2mask):
    from mmdet.datasets import CocoDataset
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / 'a.jpg'), image)
    crowd = mask_utils.encode(np.asfortranarray(np.pad(np.ones((20, 30), np.uint8), ((60, 10), (80, 10)))))
    annotations = [
        {'id': 1, 'image_id': 1, 'category_id': 5, 'iscrowd': 0, 'area': 600, 'bbox': [10, 10, 30, 20],
         'segmentation': [[10, 10, 40, 10, 40, 30, 10, 30]]},
        {'id': 2, 'image_id': 1, 'category_id': 5, 'iscrowd': 1, 'area': 600, 'bbox': [80, 60, 30, 20],
         'segmentation': {'size': [90, 120], 'counts': crowd['counts'].decode()}}]
    (tmp_path / 'a.json').write_text(json.dumps({
        'images': [{'id': 1, 'file_name': 'a.jpg', 'width': 120, 'height': 90}], 'annotations': annotations,
        'categories': [{'id': 5, 'name': 'thing'}]}))
    dataset = CocoDataset(
        data_root=str(tmp_path), ann_file='a.json', data_prefix={'img': ''}, metainfo={'classes': ('thing',)},
        pipeline=[{'type': 'LoadImageFromFile'},
                  {'type': 'mmdet.LoadAnnotations', 'with_bbox': True, 'with_mask': True, 'poly2mask': poly2mask},
                  {'type': 'LargeScaleJitter', 'image_size': 120, 'scale': (1.0, 1.0), 'flip_prob': 1.0},
                  {'type': 'mmdet.PackDetInputs'}])
    item = dataset[0]
    assert item['inputs'].shape == (3, 90, 120)
    sample = item['data_samples']
    torch.testing.assert_close(sample.gt_instances.bboxes.tensor, torch.tensor([[80.0, 10, 110, 30]]), atol=1, rtol=0)
    torch.testing.assert_close(sample.ignored_instances.bboxes.tensor, torch.tensor([[10.0, 60, 40, 80]]))
    assert len(sample.gt_instances.masks) == 1
    assert sample.flip
    assert MMDET_TRANSFORMS.get('LargeScaleJitter') is LargeScaleJitter
