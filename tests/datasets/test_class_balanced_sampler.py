"""Images of rare classes are drawn more often, in passes and without end, the same after a resume and on all ranks."""

from collections import Counter
from itertools import islice

import pytest

from vitdet_plugin.datasets import class_balanced_sampler
from vitdet_plugin.datasets.class_balanced_sampler import ClassBalancedSampler, class_balanced_weights
from vitdet_plugin.errors import UserError


class Images:
    """40 images of class 0, ten of classes 0 and 1, two of class 2, eight without objects."""

    def __init__(self):
        self.labels = [[0]] * 40 + [[0, 1, 1]] * 10 + [[2]] * 2 + [[]] * 8

    def __len__(self):
        return len(self.labels)

    def get_cat_ids(self, index):
        return self.labels[index]


def test_weights():
    weights = class_balanced_weights(Images(), 0.5)
    assert weights[0] == weights[-1] == 1
    assert weights[45].item() == pytest.approx(5 ** 0.5) and weights[50].item() == pytest.approx(25 ** 0.5)
    assert class_balanced_weights(Images(), 1)[50] == 25 and set(class_balanced_weights(Images(), 0).tolist()) == {1}


def test_a_pass_draws_every_image_about_as_often_as_expected():
    sampler = ClassBalancedSampler(Images(), power=1, seed=3)
    expected = sampler.weights * len(sampler) / sampler.weights.sum()
    total = Counter()
    for epoch in range(20):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert len(draws) == len(sampler) == 60
        counts = Counter(draws)
        assert all(abs(counts[index] - share) < 1 for index, share in enumerate(expected.tolist()))
        total += counts
    assert total[50] + total[51] > 20 * 2 * expected[50] - 2
    assert len(total) == 60  # none is left out for good


def test_power_zero_is_a_permutation():
    assert sorted(ClassBalancedSampler(Images(), power=0, seed=1)) == list(range(60))


def test_the_order_depends_on_seed_and_epoch_only():
    first, again = ClassBalancedSampler(Images(), seed=5), ClassBalancedSampler(Images(), seed=5)
    assert list(first) == list(again)
    again.set_epoch(1)
    assert list(first) != list(again)
    endless = ClassBalancedSampler(Images(), seed=5, infinite=True)
    assert list(islice(endless, 120)) == [*first, *again]


def test_ranks_share_one_order(monkeypatch):
    whole = list(ClassBalancedSampler(Images(), seed=2))
    parts = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        parts.append(list(ClassBalancedSampler(Images(), seed=2)))
    assert [index for pair in zip(*parts) for index in pair] == whole


def test_mistakes():
    with pytest.raises(UserError, match='list does not state the classes'):
        ClassBalancedSampler([1, 2, 3], seed=0)
    with pytest.raises(UserError, match='power=-1 must be at least 0'):
        ClassBalancedSampler(Images(), power=-1, seed=0)
    assert class_balanced_sampler.__doc__
