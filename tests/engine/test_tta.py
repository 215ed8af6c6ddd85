import copy
import json

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from tests.configs.loading import load
from vitdet_plugin.engine.test import use_flip_tta
from vitdet_plugin.engine.tta import FlipTTAModel, flip_tta_config
from vitdet_plugin.heads.yolov5_head import _to_original_image


class Stub(nn.Module):
    def test_step(self, data):
        return data


def view(boxes, scores, flip, width=20, height=10):
    sample = DetDataSample(metainfo=dict(flip=flip, flip_direction='horizontal', ori_shape=(height, width)))
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes):
        mask[y1:y2, x1:x2] = True
    sample.pred_instances = InstanceData(bboxes=torch.tensor(boxes).float(), scores=torch.tensor(scores),
                                         labels=torch.zeros(len(boxes), dtype=torch.long), masks=masks)
    return sample


@pytest.fixture
def model():
    return FlipTTAModel(nms=dict(type='nms', iou_threshold=0.5), max_per_img=2, module=Stub())


def test_the_best_view_of_an_object_is_kept_with_its_own_mask(model):
    """One object has score 0.4 in the original view and 0.9 in the flipped one, another is found in one view only."""
    original, flipped = view([[2, 1, 8, 9]], [0.4], False), view([[12, 1, 18, 9], [0, 0, 4, 4]], [0.9, 0.6], True)
    (merged,) = model.merge_preds([(original, flipped)])
    found = merged.pred_instances
    assert found.bboxes.tolist() == [[2, 1, 8, 9], [16, 0, 20, 4]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.bboxes.int().tolist()):
        assert mask[y1:y2, x1:x2].all() and mask.sum() == (x2 - x1) * (y2 - y1)


def test_limits_and_empty_images(model):
    many = view([[0, 0, 3, 3], [5, 0, 8, 3], [10, 0, 13, 3]], [0.3, 0.2, 0.1], False)
    empty = view([], [], True)
    empty.pred_instances.bboxes = torch.zeros(0, 4)
    assert len(model.merge_preds([(many, empty)])[0].pred_instances) == 2
    first = view([], [], False)
    first.pred_instances.bboxes = torch.zeros(0, 4)
    assert len(model.merge_preds([(first, empty)])[0].pred_instances) == 0


@pytest.mark.parametrize('name, nms, most', [
    ('internimage/mask-rcnn_internimage-t_fpn_1x_coco', dict(type='nms', iou_threshold=0.5), 100),
    ('yolov5/yolov5_convnext-t_pafpn_sgd-300e_coco', dict(type='nms', iou_threshold=0.65), 300),
    ('atss/atss_internimage-t_fpn_1x_coco', dict(type='nms', iou_threshold=0.6), 100),
    ('co_detr/co-dino_internimage-t_4scale_1x_coco', dict(type='soft_nms', iou_threshold=0.8), 300)])
def test_nms_and_limit_are_those_of_the_head(name, nms, most, capsys):
    assert flip_tta_config(load(name).model) == dict(type='FlipTTAModel', nms=nms, max_per_img=most)
    assert not capsys.readouterr().err


@pytest.mark.parametrize('head, nms', [('roi_head.0', 0.5), ('bbox_head.0', 0.6)])
def test_the_auxiliary_head_that_predicts_has_the_limits(head, nms):
    model = load('co_detr/co-dino_internimage-t_4scale_1x_coco').model
    found = flip_tta_config({**model, 'predict_with': head})
    assert (found['nms'], found['max_per_img']) == (dict(type='nms', iou_threshold=nms), 100)


@pytest.mark.parametrize('name, most', [('dino/dino_vitdet-b_4scale_1x_coco', 300),
                                        ('mask2former/mask2former_internimage-t_lsj-50e_coco', 100)])
def test_heads_without_nms_are_a_warning(name, most, capsys):
    found = flip_tta_config(load(name).model)
    assert (found['nms'], found['max_per_img']) == (dict(type='nms', iou_threshold=0.7), most)
    line, = capsys.readouterr().err.splitlines()
    assert line.startswith('warning: --tta: ') and 'has no NMS in its test_cfg; of boxes of one class' in line


def test_defaults_of_heads():
    head = dict(type='YOLOv5Head')
    assert flip_tta_config(dict(type='SingleStageDetector', bbox_head=head))['nms']['iou_threshold'] == 0.45
    assert flip_tta_config(dict(type='DINO', num_queries=900))['max_per_img'] == 900


@pytest.mark.parametrize('nms, scores', [
    (dict(type='nms', iou_threshold=0.5), [0.9, 0.8, 0.7]), (dict(type='nms', iou_threshold=0.9), [0.9, 0.8, 0.7, 0.6]),
    (dict(type='nms', iou_threshold=0.5, class_agnostic=True), [0.9, 0.7]),
    (dict(type='soft_nms', iou_threshold=0.5), [0.9, 0.8, 0.7, 0.6 * 0.2])])
def test_kinds_of_nms_without_a_limit(nms, scores):
    """Boxes of one object: two of class 0 with an IoU of 0.8, one of class 1; and another object."""
    original, flipped = view([[0, 0, 10, 10], [0, 0, 10, 10], [15, 0, 18, 9]], [0.9, 0.8, 0.7], False), view(
        [[10, 0, 20, 8]], [0.6], True)
    original.pred_instances.labels[1] = 1
    merged, = FlipTTAModel(nms=nms, max_per_img=-1, module=Stub()).merge_preds([(original, flipped)])
    assert merged.pred_instances.scores.tolist() == pytest.approx(scores)


def test_boxes_of_yolov5_are_flipped_without_a_shift(tmp_path):
    """63 columns in 96 leave an odd padding, which the flipped view has on the other side."""
    image = np.zeros((96, 63, 3), np.uint8)
    image[20:60, 10:40] = 255
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    (tmp_path / 'coco.json').write_text(json.dumps(dict(
        images=[dict(id=1, file_name='a.png', height=96, width=63)], categories=[dict(id=1, name='person')],
        annotations=[])))
    cfg = copy.deepcopy(load('yolov5/yolov5_convnext-t_pafpn_sgd-300e_coco'))
    inner = cfg.test_dataloader.dataset.dataset
    inner.update(data_root=str(tmp_path), ann_file='coco.json', data_prefix=dict(img=''),
                 metainfo=dict(classes=('person',)))
    cfg.test_dataloader.dataset = Config(dict(each=inner)).each
    inner.pipeline[1].img_size = 96
    use_flip_tta(cfg)
    init_default_scope('mmdet')
    packed = DATASETS.build(cfg.test_dataloader.dataset)[0]
    samples = packed['data_samples']
    assert [sample.flip for sample in samples] == [False, True] and samples[1].letterbox_offset == (16, 0)
    for inputs, sample in zip(packed['inputs'], samples):  # a perfect model finds the white rectangle
        rows, columns = (inputs[0] == 255).nonzero().unbind(1)
        box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])[None].float()
        found = InstanceData(bboxes=box, scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.long))
        sample.pred_instances = _to_original_image(found, sample.metainfo)
    merged, = FlipTTAModel(nms=dict(type='nms', iou_threshold=1.0), module=Stub()).merge_preds([samples])
    assert merged.pred_instances.bboxes.tolist() == [[10, 20, 40, 60]] * 2
