"""Targets of the mask head: objects drawn inside their boxes, also below one pixel."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from vitdet_plugin.heads.detectron2_mask_head import Detectron2MaskHead, maskness

CFG = ConfigDict(mask_size=28)


def rectangle(x1, y1, x2, y2):
    return np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)


def targets(masks, boxes, matched, cfg=CFG):
    head = Detectron2MaskHead(num_convs=1, in_channels=4, conv_out_channels=4, num_classes=2)
    sampled = SimpleNamespace(pos_priors=torch.tensor(boxes).reshape(-1, 4),
                              pos_assigned_gt_inds=torch.tensor(matched).long())
    return head.get_targets([sampled], [InstanceData(masks=masks)], cfg)


@pytest.mark.parametrize('width', [0.2, 0.5, 0.9, 1.0, 3.0, 40.0])
@pytest.mark.parametrize('height', [0.3, 20.0])
def test_an_object_fills_its_own_box_at_any_size(width, height):
    x, y = 10.25, 5.5
    masks = PolygonMasks([[rectangle(x, y, x + width, y + height)]], 64, 64)
    assert targets(masks, [[x, y, x + width, y + height]], [0]).mean() == 1


def test_the_left_half_of_a_box_of_half_a_pixel():
    masks = PolygonMasks([[rectangle(10, 5, 10.25, 5.5)]], 64, 64)
    target = targets(masks, [[10, 5, 10.5, 5.5]], [0])[0]
    assert target[:, :14].all() and not target[:, 14:].any()


def test_a_box_below_a_tenth_of_a_pixel_counts_as_a_tenth():
    masks = PolygonMasks([[rectangle(10, 5, 10.05, 25)]], 64, 64)
    target = targets(masks, [[10.0, 5, 10.05, 25]], [0])[0]
    assert target[:, :14].all() and not target[:, 14:].any()


def test_parts_of_an_object_and_the_order_of_the_boxes():
    masks = PolygonMasks([[rectangle(0, 0, 14, 7), rectangle(0, 21, 14, 28)], [rectangle(30, 30, 58, 58)]], 64, 64)
    found = targets(masks, [[30.0, 30, 58, 58], [0, 0, 28, 28]], [1, 0])
    assert found.shape == (2, 28, 28) and found.dtype == torch.float32 and found[0].all()
    expected = torch.zeros(28, 28)
    expected[:7, :14] = expected[21:, :14] = 1
    assert torch.equal(found[1], expected)


def test_the_polygons_are_not_changed():
    polygon = rectangle(1, 2, 3, 4)
    targets(PolygonMasks([[polygon]], 8, 8), [[0.0, 0, 4, 4]], [0])
    assert np.array_equal(polygon, rectangle(1, 2, 3, 4))


def test_bitmaps_are_cropped_by_mmdet():
    mask = np.zeros((1, 64, 64), dtype=np.uint8)
    mask[:, :32] = 1
    found = targets(BitmapMasks(mask, 64, 64), [[0.0, 0, 64, 64]], [0])
    assert found[0, :14].all() and not found[0, 14:].any()


def test_no_positive_box_and_no_object():
    assert targets(PolygonMasks([], 64, 64), [], []).shape == (0, 28, 28)
    assert targets(BitmapMasks(np.zeros((0, 64, 64), np.uint8), 64, 64), [], []).shape == (0, 28, 28)


def test_sizes_with_two_numbers():
    drawn = targets(PolygonMasks([[rectangle(0, 0, 2, 4)]], 8, 8), [[0.0, 0, 4, 4]], [0],
                    ConfigDict(mask_size=(10, 20)))
    assert drawn.shape == (1, 10, 20) and drawn[0, :, :10].all() and not drawn[0, :, 10:].any()


def test_maskness_is_the_mean_probability_inside():
    probabilities = torch.full((3, 4, 4), 0.2)
    probabilities[0, :2] = 0.9
    probabilities[1, 0, 0], probabilities[1, 0, 1] = 0.6, 0.8
    assert maskness(probabilities.logit()).tolist() == pytest.approx([0.9, 0.7, 0.0])
    assert maskness(probabilities.logit(), 0.1)[2].item() == pytest.approx(0.2)


def predicted(class_agnostic=False, **test_cfg):
    head = Detectron2MaskHead(num_convs=1, in_channels=4, conv_out_channels=4, num_classes=2,
                              class_agnostic=class_agnostic)
    logits = torch.full((2, 1 if class_agnostic else 2, 28, 28), -9.0)
    logits[0, 0], logits[1, -1] = torch.tensor(0.8).logit(), torch.tensor(0.6).logit()
    images = [InstanceData(bboxes=torch.tensor([[2.0, 2, 20, 20], [8.0, 0, 30, 9]]), scores=torch.tensor([0.5, 0.9]),
                           labels=torch.tensor([0, 1])),
              InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), labels=torch.zeros(0).long())]
    meta = dict(ori_shape=(32, 32), img_shape=(32, 32), scale_factor=(1.0, 1.0))
    return head.predict_by_feat((logits, logits[:0]), images, [meta, meta],
                                ConfigDict(mask_thr_binary=0.5, **test_cfg), rescale=True)


@pytest.mark.parametrize('class_agnostic', [False, True])
def test_maskness_changes_the_scores_of_masks_only(class_agnostic):
    found, empty = predicted(class_agnostic, maskness_thr=0.5)
    assert found.mask_scores.tolist() == pytest.approx([0.5 * 0.8, 0.9 * 0.6])
    assert found.scores.tolist() == pytest.approx([0.5, 0.9]) and found.masks.any((1, 2)).all()
    assert empty.mask_scores.shape == (0,) and empty.masks.shape == (0, 32, 32)
    assert 'mask_scores' not in predicted(class_agnostic)[0]
