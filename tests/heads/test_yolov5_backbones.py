"""Every registered backbone in YOLOv5, on its last three maps or on a pyramid built from the last map."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from tests.backbones.registered import BACKBONES, image, tiny
from vitdet_plugin.heads.yolov5_head import YOLOv5Head
from vitdet_plugin.necks.simple_feature_pyramid import SimpleFeaturePyramid
from vitdet_plugin.necks.yolov5_pafpn import YOLOv5PAFPN


def neck_and_strides(backbone):
    """The neck for a backbone, and the strides of its three maps."""
    last = backbone.out_strides[-1]
    if backbone.out_strides[-3:] == (last // 4, last // 2, last):
        return YOLOv5PAFPN(backbone.out_channels[-3:], [8] * 3), backbone.out_strides[-3:]
    pyramid = SimpleFeaturePyramid(backbone.out_channels[-1], 8, scale_factors=(2.0, 1.0, 0.5), num_outs=3)
    return nn.Sequential(pyramid, YOLOv5PAFPN([8] * 3)), (last // 2, last, last * 2)


@pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
def test_learns_and_predicts(cls):
    backbone = tiny(cls)
    neck, strides = neck_and_strides(backbone)
    anchors = [[(2 * s, 2 * s), (3 * s, 2 * s), (2 * s, 3 * s)] for s in strides]
    head = YOLOv5Head(3, [8] * 3, anchors=anchors, strides=strides, test_cfg=dict(score_thr=0.0))
    x = image(backbone, 2, 4)
    maps = neck(backbone(x)[-3:])
    assert [x.shape[-1] // m.shape[-1] for m in maps] == list(strides)
    rows, columns = x.shape[2:]
    boxes = torch.tensor([[0.1 * columns, 0.1 * rows, 0.6 * columns, 0.8 * rows]])
    truth = [InstanceData(bboxes=boxes, labels=torch.tensor([i])) for i in range(2)]
    losses = head.loss_by_feat(*head(maps), truth, [{}, {}])
    sum(losses.values()).backward()
    without = [name for part in (backbone, neck, head) for name, p in part.named_parameters() if p.grad is None]
    # norms of unused maps have no gradient; every other parameter must have one
    used = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert used and not [name for name in without if not name.startswith('norm')], without
    with torch.no_grad():
        found = head.predict_by_feat(*head.eval()(maps), [{}, {}])
    assert all(len(each) and each.bboxes.isfinite().all() for each in found)
