import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import GenericRoIExtractor, SingleRoIExtractor
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


def test_install_twice_wraps_once():
    before = SingleRoIExtractor.forward
    mmdet_precision.install()
    assert SingleRoIExtractor.forward is before
