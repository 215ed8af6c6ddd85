"""YOLOv5's neck: mmdet's neck without its output convolutions, with configurable widths."""

import pytest
import torch
from mmdet.models.necks import YOLOXPAFPN

from vitdet_plugin.errors import UserError
from vitdet_plugin.necks.yolov5_pafpn import YOLOv5PAFPN

ACT = dict(type='SiLU')


def features(channels, size=8):
    return tuple(torch.randn(2, c, size // 2 ** i, size // 2 ** i) for i, c in enumerate(channels))


def test_equals_mmdets_neck_without_output_convolutions():
    channels = [4, 8, 12]
    ours = YOLOv5PAFPN(channels, num_csp_blocks=2, act_cfg=ACT).eval()
    theirs = YOLOXPAFPN(channels, out_channels=4, num_csp_blocks=2, act_cfg=ACT).eval()
    theirs.out_convs = torch.nn.ModuleList()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = features(channels)
    for a, b in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(a, b)


def test_the_published_widths_for_convnext():
    """P3, P4, P5 = 192, 384, 384 on maps of 192, 384, 768; every parameter has a gradient."""
    neck = YOLOv5PAFPN([192, 384, 768], [192, 384, 384])
    assert [m.conv.weight.shape[:2] for m in neck.reduce_layers] == [(384, 768), (192, 384)]
    assert [b.final_conv.conv.out_channels for b in neck.top_down_blocks] == [384, 192]
    assert [b.final_conv.conv.out_channels for b in neck.bottom_up_blocks] == [384, 384]
    assert [b.main_conv.conv.in_channels for b in neck.bottom_up_blocks] == [384, 768]
    outs = neck(features([192, 384, 768]))
    assert [tuple(out.shape) for out in outs] == [(2, 192, 8, 8), (2, 384, 4, 4), (2, 384, 2, 2)]
    sum(out.square().sum() for out in outs).backward()
    assert all(p.grad is not None and p.grad.any() for p in neck.parameters())


def test_equal_widths_for_other_pyramids():
    assert [out.shape[1] for out in YOLOv5PAFPN([16] * 4)(features([16] * 4))] == [16] * 4


def test_lengths_must_agree():
    with pytest.raises(UserError, match='out_channels=.* must be a list of 3 whole numbers'):
        YOLOv5PAFPN([4, 8, 12], [4, 8])
