"""Images that are much longer than wide are resized to at least one pixel."""

import numpy as np
import pytest
import torch
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.registry import TRANSFORMS, init_default_scope

RESIZES = [dict(type='Resize', scale=(128, 128), keep_ratio=True), dict(type='Resize', scale_factor=0.05),
           dict(type='Resize', scale=(128, 128), keep_ratio=True, backend='pillow'),
           dict(type='RandomResize', scale=(128, 128), ratio_range=(0.5, 1), keep_ratio=True),
           dict(type='RandomChoiceResize', scales=[(128, 128)], keep_ratio=True),
           dict(type='FixScaleResize', scale=(128, 128), keep_ratio=True)]


@pytest.mark.parametrize('kind', [PolygonMasks, BitmapMasks])
@pytest.mark.parametrize('resize', RESIZES, ids=lambda cfg: ' '.join(map(str, cfg.values())))
@pytest.mark.parametrize('shape', [(2, 3000), (3000, 2), (1, 400)])
def test_thin_images(resize, shape, kind):
    init_default_scope('mmdet')
    height, width = shape
    polygons = [[np.array([0, 0, width, 0, width, height, 0, height], float)]]
    masks = PolygonMasks(polygons, *shape)
    results = dict(img=np.zeros((*shape, 3), np.uint8), img_shape=shape, ori_shape=shape,
                   gt_bboxes=HorizontalBoxes(torch.tensor([[0., 0., width, height]])),
                   gt_masks=masks if kind is PolygonMasks else BitmapMasks(masks.to_ndarray().astype(np.uint8), *shape))
    found = TRANSFORMS.build(resize)(results)
    assert min(found['img'].shape[:2]) == 1 and found['img'].shape[:2] == tuple(found['img_shape'])
    assert 20 <= max(found['img'].shape[:2]) <= 160
    assert found['gt_masks'].height == found['img'].shape[0] and found['gt_masks'].width == found['img'].shape[1]
