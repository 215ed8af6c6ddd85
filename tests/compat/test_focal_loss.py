import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import sigmoid_focal_loss

from tests.compat import oracles


def by_definition(logits, target, gamma, alpha, class_weight):
    """FL(p_t) = -alpha_t (1 - p_t)^gamma log(p_t), summed."""
    total = np.zeros(())
    for row, label in zip(logits, target):
        for column, logit in enumerate(row):
            p = 1 / (1 + np.exp(-logit))
            p_t, alpha_t = (p, alpha) if column == label else (1 - p, 1 - alpha)
            weight = 1 if class_weight is None else class_weight[label]
            total = total - weight * alpha_t * (1 - p_t) ** gamma * np.log(p_t)
    return total


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), gamma=st.sampled_from([1.5, 2.0]), weighted=st.booleans())
def test_loss_and_gradient(seed, gamma, weighted):
    random = np.random.default_rng(seed)
    logits, target = random.normal(0, 3, (4, 3)), random.integers(0, 3 if weighted else 4, 4)  # 3 is background
    class_weight = random.uniform(0.5, 2, 3) if weighted else None
    x = torch.from_numpy(logits).requires_grad_()
    loss = sigmoid_focal_loss(x, torch.from_numpy(target), gamma, 0.25,
                              torch.from_numpy(class_weight) if weighted else None, 'sum')
    loss.backward()
    assert loss.item() == pytest.approx(by_definition(logits, target, gamma, 0.25, class_weight))
    numeric = oracles.numeric_gradient(lambda a: by_definition(a, target, gamma, 0.25, class_weight), logits,
                                       np.ones(()))
    np.testing.assert_allclose(x.grad, numeric, atol=1e-6)


def test_extreme_logits_stay_finite():
    x = torch.tensor([[90., -90.], [-90., 90.]], requires_grad=True)
    loss = sigmoid_focal_loss(x, torch.tensor([1, 0]), 2.0, 0.25, None, 'mean')
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(x.grad).all()
