import pytest
from mmengine.registry import MODELS, init_default_scope

from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.engine.check_box_losses import check_box_losses


@pytest.mark.parametrize('kind, is_fault', [('RetinaHead', True), ('ATSSHead', False), ('GFLHead', False),
                                            ('DDODHead', False)])
def test_overlap_losses_of_one_stage_heads(kind, is_fault):
    """ATSS, GFL and DDOD decode the boxes by themselves, whatever ``reg_decoded_bbox`` is."""
    import_scope('mmdet')
    init_default_scope('mmdet')
    head = dict(type=f'mmdet.{kind}', num_classes=2, in_channels=8, feat_channels=32, stacked_convs=1,
                loss_bbox=dict(type='mmdet.GIoULoss'))
    if kind == 'GFLHead':
        head['anchor_generator'] = dict(type='mmdet.AnchorGenerator', ratios=[1.0], scales=[8], strides=[8])
    findings = check_box_losses(MODELS.build(head))
    assert bool(findings) is is_fault
    assert not check_box_losses(MODELS.build(dict(head, reg_decoded_bbox=True)))


def test_overlap_losses_of_a_second_stage(tiny_config):
    from vitdet_plugin.engine.preflight import inspect_config
    head = tiny_config.model.roi_head.bbox_head
    head.loss_bbox = dict(type='CIoULoss', loss_weight=10.0)
    (finding,) = inspect_config(tiny_config, ['train'])
    assert finding.text.startswith('model.roi_head.bbox_head: CIoULoss compares boxes')
    head.reg_decoded_bbox = True
    assert inspect_config(tiny_config, ['train']) == []
