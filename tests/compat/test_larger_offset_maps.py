"""Offset and mask maps larger than the output are read as mmcv's compiled operator reads them; DyHead depends on it."""

import numpy as np
import pytest
import torch
from mmcv.ops import deform_conv2d, modulated_deform_conv2d
from mmengine.hub import get_config
from mmengine.registry import MODELS

from tests.compat import oracles
from tests.compat.tiny_detector import batch


def first_elements(maps, height, width):
    """Index the memory of each image as mmcv's kernels do: ((channel * height) + row) * width + column."""
    memory = maps.reshape(len(maps), -1)
    found = np.empty((*maps.shape[:2], height, width))
    for n, c, i, j in np.ndindex(*found.shape):
        found[n, c, i, j] = memory[n, (c * height + i) * width + j]
    return found


@pytest.mark.parametrize(('size', 'maps', 'stride', 'deform_groups'), [
    ((4, 5), (8, 9), 1, 1),  # DyHead: the next level with the maps of this one
    ((4, 5), (4, 6), 1, 2),
    ((7, 6), (5, 4), 2, 2),
    ((6, 6), (9, 2), 2, 1),  # fewer columns, but enough elements
])
def test_larger_maps(size, maps, stride, deform_groups):
    random = np.random.default_rng(0)
    cells = deform_groups * 9
    out_size = [(n - 1) // stride + 1 for n in size]
    arrays = dict(x=random.normal(size=(2, 4, *size)), offset=random.normal(size=(2, 2 * cells, *maps)),
                  mask=random.uniform(size=(2, cells, *maps)), weight=random.normal(size=(3, 4, 3, 3)),
                  bias=random.normal(size=3))
    inputs = {name: torch.from_numpy(array).requires_grad_() for name, array in arrays.items()}
    out = modulated_deform_conv2d(*inputs.values(), stride, 1, 1, 1, deform_groups)
    grad_output = random.normal(size=out.shape)
    out.backward(torch.from_numpy(grad_output))

    def function(offset, mask):
        return oracles.deform_conv(arrays['x'], arrays['weight'], first_elements(offset, *out_size),
                                   first_elements(mask, *out_size), arrays['bias'], stride, 1, 1, 1, deform_groups)

    np.testing.assert_allclose(out.detach(), function(arrays['offset'], arrays['mask']), atol=1e-9)
    used = int(np.prod(out_size))
    for name, channels in (('offset', 2 * cells), ('mask', cells)):
        gradient = inputs[name].grad.flatten(1)
        assert gradient[:, :channels * used].ne(0).float().mean() > 0.7
        assert not gradient[:, channels * used:].any()  # never read
        change = np.zeros(arrays[name].shape)
        change.reshape(2, -1)[:, ::5] = 1e-6
        moved = [function(**{**{each: arrays[each] for each in ('offset', 'mask')}, name: arrays[name] + sign * change})
                 for sign in (1, -1)]
        expected = ((moved[0] - moved[1]) * grad_output).sum() / 2
        assert (inputs[name].grad.numpy() * change).sum() == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_maps_that_are_slices_in_bfloat16():
    """mmdet computes offsets and masks by one convolution and slices its output."""
    both = torch.randn(2, 27, 6, 6, dtype=torch.bfloat16, requires_grad=True)
    x, weight = torch.randn(2, 4, 3, 3), torch.randn(5, 4, 3, 3)
    out = modulated_deform_conv2d(x, both[:, :18], both[:, 18:].sigmoid(), weight, None, 1, 1)
    out.sum().backward()
    assert out.shape == (2, 5, 3, 3) and both.grad.isfinite().all() and both.grad.any()


def test_smaller_maps_and_other_sizes_in_version_1_are_errors():
    x, weight = torch.randn(1, 4, 6, 6), torch.randn(4, 4, 3, 3)
    with pytest.raises(RuntimeError, match=r'\(3, 3\).*\(6, 6\)'):
        modulated_deform_conv2d(x, torch.zeros(1, 18, 3, 3), torch.ones(1, 9, 3, 3), weight, None, 1, 1)
    with pytest.raises(RuntimeError, match=r'\(8, 8\).*\(6, 6\)'):
        deform_conv2d(x, torch.zeros(1, 18, 8, 8), weight, 1, 1)


@pytest.mark.parametrize('amp', [False, True])
def test_dyhead_trains_and_predicts(amp):
    cfg = get_config('mmdet::dyhead/atss_r50_fpn_dyhead_1x_coco.py').model
    cfg.backbone.update(depth=18, base_channels=16, frozen_stages=-1, init_cfg=None)
    cfg.neck[0].update(in_channels=[16, 32, 64, 128], out_channels=32)
    cfg.neck[1].update(in_channels=32, out_channels=32, num_blocks=2, zero_init_offset=False)
    cfg.bbox_head.update(in_channels=32, feat_channels=32, num_classes=3)
    torch.manual_seed(0)
    model = MODELS.build({**cfg, '_scope_': 'mmdet'}).train()
    model.init_weights()
    data = model.data_preprocessor(batch(96), training=True)  # the smallest levels have an odd size
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        losses = model.loss(data['inputs'], data['data_samples'])
    model.parse_losses(losses)[0].backward()
    for name, parameter in model.neck.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert 'spatial_conv_offset' not in name or parameter.grad.any(), name
    with torch.no_grad():
        assert len(model.eval().test_step(batch(96))) == 2
