"""The rows of classes are found in every kind of head, and reordered weights give the same scores by name."""

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

from vitdet_plugin.checkpoints.class_order import (
    ClassRows,
    find_class_rows,
    find_class_rows_by_name,
    is_last_layer,
    match_order,
    reorder_classes,
    stored_classes,
)
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.registry import model_config
from vitdet_plugin.engine.check_weights import build_without_memory
from vitdet_plugin.engine.class_order import class_rows

CLASSES, ORDER = 3, [2, 0, 1]  # class i of the reordered head is class ORDER[i] of the first
ANCHORS = dict(type='AnchorGenerator', ratios=[1.0, 2.0], strides=[8], scales=[4])
SSD_ANCHORS = dict(type='SSDAnchorGenerator', strides=[8, 16], ratios=[[2], [2]], min_sizes=[8, 16],
                   max_sizes=[16, 32])
MAPS, ROIS = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)


def box_head(**kwargs):
    return dict(type='Shared2FCBBoxHead', in_channels=4, fc_out_channels=8, roi_feat_size=3, **kwargs)


def maps(*channels):
    return [torch.randn(1, each, 8 // 2**level, 8 // 2**level, generator=MAPS)
            for level, each in enumerate(channels)]


def by_anchor(outputs, background=0):
    """Class scores of dense outputs of shape ``(B, anchors * classes, H, W)``."""
    return [each.unflatten(1, (-1, CLASSES + background)).movedim(2, -1)[..., :CLASSES] for each in outputs]


HEADS = {  # config -> (function of input and head that returns class scores (..., K))
    'box': (box_head(), lambda head, x: [head(x)[0][:, :CLASSES], head(x)[1].unflatten(1, (CLASSES, 4)).movedim(1, -1)],
            lambda: torch.randn(5, 4, 3, 3, generator=ROIS)),
    'class-agnostic box': (box_head(reg_class_agnostic=True), lambda head, x: [head(x)[0][:, :CLASSES]],
                           lambda: torch.randn(5, 4, 3, 3, generator=ROIS)),
    'mask': (dict(type='FCNMaskHead', num_convs=1, in_channels=4, conv_out_channels=4),
             lambda head, x: [head(x).movedim(1, -1)], lambda: torch.randn(5, 4, 3, 3, generator=ROIS)),
    'RetinaNet': (dict(type='RetinaHead', in_channels=4, feat_channels=4, stacked_convs=1, anchor_generator=ANCHORS),
                  lambda head, x: by_anchor(head(x)[0]), lambda: maps(4)),
    'SSD': (dict(type='SSDHead', in_channels=(4, 6), anchor_generator=SSD_ANCHORS),
            lambda head, x: by_anchor(head(x)[0], 1), lambda: maps(4, 6)),
    'FCOS': (dict(type='FCOSHead', in_channels=4, feat_channels=4, stacked_convs=1, strides=[8],
                  norm_cfg=dict(type='GN', num_groups=2)), lambda head, x: by_anchor(head(x)[0]), lambda: maps(4)),
    'YOLOv3': (dict(type='YOLOV3Head', in_channels=(4,), out_channels=(4,), featmap_strides=[8],
                    anchor_generator=dict(type='YOLOAnchorGenerator', base_sizes=[[(8, 8), (9, 9)]], strides=[8])),
               lambda head, x: [each.unflatten(1, (-1, 5 + CLASSES)).movedim(2, -1)[..., 5:] for each in head(x)[0]],
               lambda: maps(4)),
    'YOLOv5': (dict(type='YOLOv5Head', in_channels=(4, 4, 4)), lambda head, x: [each[..., 5:] for each in head(x)[0]],
               lambda: maps(4, 4, 4)),
}


def build(config, classes):
    torch.manual_seed(0)
    head = MODELS.build({**config, 'num_classes': classes}).eval()
    for value in head.parameters():
        torch.nn.init.normal_(value, std=0.3)
    return head


@pytest.mark.parametrize('name', HEADS)
def test_reordered_heads_give_the_same_scores_by_name(name):
    init_default_scope('mmdet')
    config, scores, inputs = HEADS[name]
    heads = [build(config, classes) for classes in (CLASSES, CLASSES + 1)]
    shapes = [{f'bbox_head.{key}': value.shape for key, value in head.state_dict().items()} for head in heads]
    rows = find_class_rows(*shapes, CLASSES)
    state = {f'bbox_head.{key}': value for key, value in heads[0].state_dict().items()}
    reordered, changed = reorder_classes(state, rows, ORDER)
    assert sorted(changed) == sorted(rows) and changed
    x = inputs()
    with torch.no_grad():
        before = scores(heads[0], x)
        heads[0].load_state_dict({key.removeprefix('bbox_head.'): value for key, value in reordered.items()})
        after = scores(heads[0], x)
    for one, other in zip(before, after):
        torch.testing.assert_close(other, one[..., ORDER])
        assert not torch.equal(one, other)


@pytest.mark.parametrize('config', [
    'classification/volo-d1_310e_imagenet-token-labels', 'co_detr/co-dino_internimage-t_4scale_1x_coco',
    'dino/dino_internimage-t_4scale_1x_coco', 'mask2former/mask2former_internimage-t_lsj-50e_coco',
    'internimage/mask-rcnn_internimage-t_fpn_1x_coco', 'atss/atss_internimage-t_fpn_1x_coco',
    'internimage/cascade-mask-rcnn_internimage-l_fpn_1x_coco', 'fcos/fcos_internimage-t_fpn_1x_coco',
    'rtmdet/rtmdet_convnext-t_300e_coco', 'yolov5/yolov5_convnext-t_pafpn_sgd-300e_coco'])
def test_names_of_layers_lead_to_the_same_rows_as_a_comparison_of_models(config):
    cfg = load_config(f'configs/{config}.py')
    init_default_scope(cfg.default_scope)
    classes = 1000 if 'classification' in config else 80
    shapes = {name: value.shape for name, value in build_without_memory(model_config(cfg)).state_dict().items()}
    rows = find_class_rows_by_name(shapes, classes)
    assert rows == class_rows(model_config(cfg), classes) and rows
    assert all(is_last_layer(name) for name in rows)


def test_anchors_of_retinanet_are_groups_of_classes():
    assert find_class_rows_by_name({'bbox_head.retina_cls.bias': (36,)}, 4) == {
        'bbox_head.retina_cls.bias': ClassRows(0, 9, 0, 1, 0)}


@pytest.mark.parametrize('shapes, named', [
    ({'bbox_head.gfl_cls.bias': (3,)}, 'bbox_head.gfl_cls.bias'),
    ({'bbox_head.retina_cls.bias': (12,)}, 'bbox_head.retina_cls.bias'),  # 4 anchors, or 3 with a background
    ({'bbox_head.cls_convs.0.0.bias': (16,)}, 'bbox_head'),
    ({'bbox_head.fc_cls.bias': (4,), 'mask_head.1.conv.bias': (16,)}, 'mask_head.1'),
    ({'bbox_head.fc_cls.bias': (4,), 'bbox_head.fc_reg.bias': (8,)}, 'bbox_head.fc_reg.bias')])
def test_unknown_heads_are_refused(shapes, named):
    with pytest.raises(ValueError, match=f'^{named}$'):
        find_class_rows_by_name(shapes, 3)


def test_averaged_weights_and_other_shapes():
    shapes = [{'head.fc.weight': (classes, 2), 'head.norm': (2,)} for classes in (3, 4)]
    rows = find_class_rows(*shapes, 3)
    weight = torch.arange(6.).view(3, 2)
    state, changed = reorder_classes({'module.head.fc.weight': weight, 'head.fc.weight': torch.zeros(7, 2), 'steps': 3},
                                     rows, ORDER)
    assert changed == ['module.head.fc.weight'] and state['steps'] == 3 and len(state['head.fc.weight']) == 7
    assert torch.equal(state['module.head.fc.weight'], weight[ORDER])


@pytest.mark.parametrize('here, there', [((21,), (28,)), ((9,), (10,)), ((3, 3), (4, 4)), ((3,), (3, 1))])
def test_an_unknown_layout_is_refused(here, there):
    with pytest.raises(ValueError, match='head.odd.weight'):
        find_class_rows({'head.odd.weight': here}, {'head.odd.weight': there}, 3)


@pytest.mark.parametrize('content, names', [
    (dict(meta=dict(dataset_meta=dict(classes=('a', 'b')))), ('a', 'b')),
    (dict(meta=dict(dataset_meta=dict(CLASSES=['a', 'b']))), ('a', 'b')),
    (dict(meta=dict(CLASSES=('a', 1))), ('a', '1')), (dict(meta=dict(CLASSES='cell')), ('cell',)),
    (dict(meta=dict(Classes={1: 'b', 0: 'a'})), ('a', 'b')),
    (dict(meta=dict(dataset_meta=None)), None), (dict(state_dict={}), None), (dict(meta=3), None)])
def test_names_stored_in_checkpoints(content, names):
    assert stored_classes(content) == names


@pytest.mark.parametrize('names, targets, order', [
    ('abc', 'cab', [2, 0, 1]), ('abc', 'abd', None), ('abc', 'ab', None), ('aA', 'Aa', [1, 0]), ('aA', 'aa', None),
    (['Hair_drier', 'cat '], ['cat', 'hair drier'], [1, 0])])
def test_match_order(names, targets, order):
    assert match_order(names, targets) == order
