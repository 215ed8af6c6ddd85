"""Numbers of classes of a model that are not those of the data: one line each before the run."""

import pytest
from mmengine.config import Config

from vitdet_plugin.engine.check_class_counts import check_class_counts

CLASSES = ('ball', 'cup', 'ring')


def texts(model, dataset='CocoDataset', **other):
    cfg = Config(dict(model=model, train_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(
        type=dataset))), **other))
    assert check_class_counts(cfg, ()) == []
    return [finding.text for finding in check_class_counts(cfg, CLASSES)]


def mask2former(things=3, stuff=0, fusion=(3, 0), weights=4):
    return dict(type='Mask2Former',
                panoptic_head=dict(num_things_classes=things, num_stuff_classes=stuff,
                                   loss_cls=dict(class_weight=[1.0] * weights)),
                panoptic_fusion_head=dict(num_things_classes=fusion[0], num_stuff_classes=fusion[1]))


def test_heads_of_boxes_masks_and_images():
    heads = dict(bbox_head=[dict(num_classes=3), dict(num_classes=80)], mask_head=dict(num_classes=4))
    found = texts(dict(rpn_head=dict(num_classes=1), roi_head=heads))
    assert [each.split('=')[0] for each in found] == ['model.roi_head.bbox_head.1.num_classes',
                                                      'model.roi_head.mask_head.num_classes']
    assert 'set it to 3' in texts(dict(head=dict(num_classes=1000)))[0]
    assert texts(dict(head=dict(num_classes=3), backbone=dict(num_classes=21843))) == []


def test_numbers_of_another_meaning():
    teacher = dict(model=dict(bbox_head=dict(num_classes=80)))
    assert texts(dict(bbox_head=dict(num_classes=3), teacher=teacher, teacher_config=teacher)) == []
    assert texts(dict(bbox_head=dict(num_classes=256, contrastive_cfg=dict(max_text_len=256)))) == []


@pytest.mark.parametrize(('model', 'path'), [
    (dict(fusion=(80, 0)), 'model.panoptic_fusion_head: num_things_classes=80'),
    (dict(things=80), 'model.panoptic_head: num_things_classes=80'),
    (dict(stuff=3), 'num_stuff_classes=3, but the data set has 3 classes of objects; set them to 3 and 0'),
    (dict(weights=81), 'model.panoptic_head.loss_cls.class_weight has 81 numbers')])
def test_mask2former(model, path):
    assert texts(mask2former()) == []
    found, = texts(mask2former(**model))
    assert path in found


def test_panoptic_data():
    assert texts(mask2former(things=1, stuff=2, fusion=(1, 2)), 'CocoPanopticDataset') == []
    assert 'are 5 classes' in texts(mask2former(things=3, stuff=2, fusion=(1, 2)), 'CocoPanopticDataset')[0]


@pytest.mark.parametrize(('model', 'needed'), [
    (dict(head=dict(num_classes=3, loss=dict(class_weight=[1.0, 2.0]))), 'give 3, one for each class'),
    (dict(bbox_head=dict(num_classes=3, loss_cls=dict(use_sigmoid=True, class_weight=[1.0] * 4))), 'give 3'),
    (dict(roi_head=dict(bbox_head=dict(num_classes=3, loss_cls=dict(use_sigmoid=False, class_weight=[1.0] * 3)))),
     'give 4, one for each class and the background')])
def test_class_weights(model, needed):
    found, = texts(model)
    assert needed in found


def test_mixed_labels():
    model = dict(head=dict(num_classes=3), train_cfg=dict(augments=dict(type='Mixup')))
    assert 'mix the labels of 3 classes; set it to 3' in texts(model)[0]
    assert texts(model, data_preprocessor=dict(num_classes=3)) == []
