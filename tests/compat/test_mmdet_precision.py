import pytest
import torch
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmdet.models.task_modules.prior_generators import AnchorGenerator, MlvlPointGenerator
from mmengine.config import ConfigDict

from vitdet_plugin.compat import mmdet_precision

LAYER = ConfigDict(type='RoIAlign', output_size=7, sampling_ratio=2)


@pytest.mark.parametrize('generator', [AnchorGenerator([4], [0.5], scales=[8]), MlvlPointGenerator([4])])
def test_priors_are_exact_in_bf16(generator):
    wide = generator.grid_priors([(8, 256)], device='cpu')[0]
    low = generator.grid_priors([(8, 256)], dtype=torch.bfloat16, device='cpu')[0]
    assert torch.equal(low, wide)
    assert not torch.equal(wide.bfloat16().float(), wide)  # the result of mmdet without the patch
    assert generator.grid_priors([(2, 2)], dtype=torch.float64, device='cpu')[0].dtype == torch.float64


@pytest.mark.parametrize('extractor', [SingleRoIExtractor, GenericRoIExtractor])
def test_far_rois_are_not_rounded(extractor):
    module = extractor(roi_layer=LAYER, out_channels=1, featmap_strides=[4])
    ramp = torch.arange(256.).expand(1, 1, 8, 256).bfloat16()  # each cell holds its column
    rois = torch.tensor([[0., 1001., 0., 1015., 28.]])
    out = module((ramp,), rois)
    assert out.dtype == torch.bfloat16
    # columns 250.25 to 253.75 as centers of the bins, minus half a cell; bf16 would have shifted the RoI by 4 px
    expected = 250.25 + (torch.arange(7) + 0.5) * 0.5 - 0.5
    torch.testing.assert_close(out[0, 0, 0].float(), expected, atol=1.0, rtol=0)
    wide = module((ramp.float(),), rois)
    torch.testing.assert_close(out, wide.bfloat16())


def test_boxes_are_decoded_in_float32():
    coder = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
    boxes, deltas = torch.tensor([[100., 200., 901., 777.]]), torch.tensor([[0.3, -0.7, 1.3, -0.9]]).bfloat16()
    assert torch.equal(coder.decode(boxes, deltas), coder.decode(boxes, deltas.float()))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_scores_and_boxes_of_a_head_are_float32(dtype):
    head = BBoxHead(num_classes=2, reg_class_agnostic=True)
    logits = torch.tensor([[4.0, -4.0, 0.0], [4.03125, -4.0, 0.0]], dtype=dtype)  # equal scores in bfloat16
    rois = torch.tensor([[0., 1., 2., 31., 42.], [0., 50., 2., 81., 42.]])
    found, = head.predict_by_feat(
        (rois,), (logits,), (torch.zeros(2, 4, dtype=dtype),), [dict(img_shape=(100, 100), scale_factor=(1, 1))],
        rcnn_test_cfg=ConfigDict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10))
    assert found.scores.dtype == found.bboxes.dtype == torch.float32 and found.scores[0] > found.scores[1]
    assert torch.equal(found.bboxes[:, 0].sort().values, torch.tensor([1., 50.]))


def test_install_twice_wraps_once():
    before = SingleRoIExtractor.forward
    mmdet_precision.install()
    assert SingleRoIExtractor.forward is before
