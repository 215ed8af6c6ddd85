import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIAlign, roi_align

from tests.compat import oracles

CASES = dict(seed=st.integers(0, 10_000), ratio=st.sampled_from([0, 1, 2]), aligned=st.booleans(),
             scale=st.sampled_from([1.0, 0.5]))


def some_rois(seed, dtype=torch.float64):
    """Two images of two channels, 5 x 6 cells, and three RoIs, some partly outside the image."""
    random = np.random.default_rng(seed)
    feature = random.normal(size=(2, 2, 5, 6))
    corner = random.uniform(-3, 7, (3, 2))
    rois = np.concatenate([random.integers(0, 2, (3, 1)), corner, corner + random.uniform(0.3, 9, (3, 2))], 1)
    return torch.tensor(feature, dtype=dtype), torch.tensor(rois, dtype=dtype)


def expected(feature, rois, scale, ratio, aligned, pool=np.mean):
    return np.stack([oracles.roi_align(feature[int(roi[0])], roi[1:], 2, scale, ratio, aligned, pool)
                     for roi in rois.numpy()])


@settings(max_examples=40)
@given(**CASES, mode=st.sampled_from(['avg', 'max']))
def test_forward(seed, ratio, aligned, scale, mode):
    feature, rois = some_rois(seed)
    out = roi_align(feature, rois, 2, scale, ratio, mode, aligned)
    pool = np.mean if mode == 'avg' else np.max
    np.testing.assert_allclose(out, expected(feature.numpy(), rois, scale, ratio, aligned, pool), atol=1e-9)


@settings(max_examples=15)
@given(**CASES, mode=st.sampled_from(['avg', 'max']))
def test_backward(seed, ratio, aligned, scale, mode):
    feature, rois = some_rois(seed)
    feature.requires_grad_()
    grad_output = torch.from_numpy(np.random.default_rng(seed).normal(size=(3, 2, 2, 2)))
    roi_align(feature, rois, 2, scale, ratio, mode, aligned).backward(grad_output)
    pool = np.mean if mode == 'avg' else np.max
    numeric = oracles.numeric_gradient(lambda f: expected(f, rois, scale, ratio, aligned, pool),
                                       feature.detach().numpy(), grad_output.numpy())
    np.testing.assert_allclose(feature.grad, numeric, atol=1e-6)


@pytest.mark.parametrize('mode', ['avg', 'max'])
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float32])
def test_low_precision_computes_in_float32(dtype, mode):
    feature, rois = some_rois(1, dtype)
    feature.requires_grad_()
    out = RoIAlign(2, pool_mode=mode)(feature, rois)
    out.sum().backward()
    wide = feature.detach().float().requires_grad_()
    reference = RoIAlign(2, pool_mode=mode)(wide, rois.float())
    reference.sum().backward()
    assert out.dtype == feature.grad.dtype == dtype
    torch.testing.assert_close(out, reference.to(dtype))
    torch.testing.assert_close(feature.grad, wide.grad.to(dtype))


@pytest.mark.parametrize('mode', ['avg', 'max'])
def test_no_rois(mode):
    feature = torch.randn(1, 3, 4, 4, requires_grad=True)
    out = RoIAlign(7, pool_mode=mode)(feature, torch.zeros(0, 5))
    out.sum().backward()
    assert out.shape == (0, 3, 7, 7)
    assert feature.grad.abs().sum() == 0
