"""Letterbox, batches of similar shapes, loading at the size for training."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.registry import DATASETS, init_default_scope

from vitdet_plugin.transforms.letterbox import LetterBox, batch_shapes
from vitdet_plugin.transforms.load_resized import LoadResizedImage


@settings(max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([None, (64, 96), (96, 64), (128, 128)]), st.booleans())
def test_boxes_match_the_image(height, width, shape, upscale):
    img = np.full((height, width, 3), 200, np.uint8)
    results = dict(img=img, gt_bboxes=HorizontalBoxes(torch.tensor([[0.0, 0, width, height]])))
    if shape:
        results['batch_shape'] = shape
    out = LetterBox(128, upscale=upscale).transform(results)
    assert out['img'].shape[:2] == out['img_shape'] == (shape or (128, 128))
    x1, y1, x2, y2 = out['gt_bboxes'].tensor[0].round().int().tolist()
    inside = out['img'][y1:y2, x1:x2]
    assert inside.size == 0 or (inside == 200).all()
    assert (out['img'] == 200).all(2).sum() == (x2 - x1) * (y2 - y1)
    (left, top), (rows, columns) = out['letterbox_offset'], out['img_shape']
    assert abs(left - (columns - x2)) <= 1 and abs(top - (rows - y2)) <= 1  # centered
    assert upscale or max(out['scale_factor']) <= 1.0


def test_an_example_computed_by_hand():
    out = LetterBox(64).transform(dict(img=np.zeros((100, 200, 3), np.uint8)))
    assert out['scale_factor'] == (0.32, 0.32) and out['letterbox_offset'] == (0, 16)
    assert (out['img'][:16] == 114).all() and (out['img'][48:] == 114).all() and not out['img'][16:48].any()


def test_batch_shapes():
    sizes = np.array([(640, 480), (480, 640), (640, 320), (640, 640), (320, 640)])
    order, shapes = batch_shapes(sizes, 2, 640)
    assert order.tolist() == [2, 0, 3, 1, 4]
    assert shapes == [(512, 672), (672, 672), (672, 352)]


@pytest.fixture
def folder(tmp_path):
    """Five images of different shapes, one of them twice as large as the rest."""
    sizes = [(40, 30), (30, 40), (40, 20), (80, 80), (20, 40)]
    images, annotations = [], []
    for i, (width, height) in enumerate(sizes):
        cv2.imwrite(str(tmp_path / f'{i}.png'), np.full((height, width, 3), 40 * i, np.uint8))
        images.append(dict(id=i, file_name=f'{i}.png', width=width, height=height))
        annotations.append(dict(id=i + 1, image_id=i, category_id=1, iscrowd=0, area=100, bbox=[2, 2, 10, 10]))
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name='x')])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    return tmp_path


def rectangles(folder):
    init_default_scope('mmdet')
    import mmdet.datasets  # noqa: F401
    return DATASETS.build(dict(
        type='RectangleBatches', batch_size=2, img_size=64, dataset=dict(
            type='CocoDataset', data_root=str(folder), ann_file='a.json', data_prefix=dict(img=''),
            metainfo=dict(classes=('x',)), test_mode=True, pipeline=[
                dict(type='LoadImageFromFile'), dict(type='LetterBox', img_size=64, upscale=True),
                dict(type='PackDetInputs', meta_keys=('img_id', 'img_shape', 'letterbox_offset'))])))


def test_a_batch_has_one_shape_and_every_image_occurs_once(folder):
    data = rectangles(folder)
    items = [data[i] for i in range(len(data))]
    assert sorted(item['data_samples'].img_id for item in items) == list(range(5))
    shapes = [tuple(item['inputs'].shape[1:]) for item in items]
    assert shapes[0] == shapes[1] and shapes[2] == shapes[3] and len(set(shapes)) == 3
    assert all(side % 32 == 0 for shape in shapes for side in shape)
    assert data.metainfo['classes'] == ('x',)


def test_a_batch_over_two_ranks_has_one_shape(folder, monkeypatch):
    monkeypatch.setattr('vitdet_plugin.datasets.rectangle_batches.get_world_size', lambda: 2)
    data = rectangles(folder)
    assert len({data[i]['inputs'].shape for i in range(4)}) == 1


@pytest.mark.parametrize('cache_mb', [0, 10])
def test_loading_resizes_and_caches(folder, cache_mb):
    load = LoadResizedImage(40, cache_mb=cache_mb)
    start = dict(img_path=str(folder / '3.png'), gt_bboxes=HorizontalBoxes(torch.tensor([[2.0, 2, 12, 12]])))
    first, second = (load(copy.deepcopy(start)) for _ in range(2))
    for out in (first, second):
        assert out['img'].shape == (40, 40, 3) and out['ori_shape'] == (80, 80) and out['scale_factor'] == (0.5, 0.5)
        assert out['gt_bboxes'].tensor.tolist() == [[1, 1, 6, 6]]
    first['img'][:] = 0  # augmentation must not change the cached image
    (folder / '3.png').unlink()
    if cache_mb:
        assert (load(copy.deepcopy(start))['img'] == 120).all()
    else:
        with pytest.raises(FileNotFoundError):
            load(copy.deepcopy(start))


def test_the_cache_has_a_limit(folder):
    load = LoadResizedImage(640, cache_mb=2)  # 0.9 MB for an image of 640 x 480
    for i in (0, 1, 2):
        load(dict(img_path=str(folder / f'{i}.png')))
    assert list(load._cache) == [str(folder / f'{i}.png') for i in (0, 1)]
