"""A sampler that draws images of rare classes more often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sized
from typing import Any

import numpy as np
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

from vitdet_plugin.errors import UserError


@DATA_SAMPLERS.register_module()
class ClassBalancedSampler(DefaultSampler):
    """Draw images in proportion to the rarity of their rarest class.

    With f(c) the share of images that contain class c, an image has the weight max over its classes of
    (max f / f(c)) ** ``power``, as the repeat factors of LVIS (arXiv 1908.03195, appendix B.1) relative to the most
    frequent class; images without objects have weight 1. A pass has as many draws as the data set has images: each
    image is drawn the whole part of its expected number of times, and once more with the probability of the rest.

    Args:
        dataset: Data set with ``get_cat_ids(index)``.
        power: 0 draws all images equally often, 0.5 as LVIS, 1 all classes about equally often.
        infinite: Never end, for training loops that count iterations.
        seed: Seed; by default a random one, the same on all ranks.
        shuffle: Accepted for the same arguments as other samplers; images are always drawn at random.
        round_up: Whether every rank has the same number of draws.

    Raises:
        UserError: The data set does not state the classes of its images, or ``power`` is negative.
    """

    def __init__(self, dataset: Sized, power: float = 0.5, infinite: bool = False, seed: int | None = None,
                 shuffle: bool = True, round_up: bool = True) -> None:
        super().__init__(dataset, shuffle=True, seed=seed, round_up=round_up)
        if power < 0:
            raise UserError(f'ClassBalancedSampler: power={power} must be at least 0')
        self.infinite = infinite
        self.weights = class_balanced_weights(dataset, power)

    def __iter__(self) -> Iterator[int]:
        epoch = self.epoch
        while True:
            draws = self._draws(self.seed + epoch)
            yield from draws[self.rank:self.total_size:self.world_size].tolist()
            if not self.infinite:
                return
            epoch += 1

    def _draws(self, seed: int) -> torch.Tensor:
        """Draw indices for all ranks by systematic sampling, in random order."""
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.weights), generator=generator)  # which images get the rest is random
        ends = torch.cumsum(self.weights[order], 0) * (self.total_size / self.weights.sum())
        start = torch.rand((), generator=generator, dtype=torch.float64)
        positions = start + torch.arange(self.total_size, dtype=torch.float64)
        found = order[torch.searchsorted(ends, positions).clamp(max=len(order) - 1)]
        return found[torch.randperm(len(found), generator=generator)]


def class_balanced_weights(dataset: Any, power: float) -> torch.Tensor:
    """Return the weight of every image, float64 (N,); see :class:`ClassBalancedSampler`."""
    try:
        classes = [set(np.atleast_1d(dataset.get_cat_ids(index)).tolist()) for index in range(len(dataset))]
    except (AttributeError, NotImplementedError):
        raise UserError(f'ClassBalancedSampler: {type(dataset).__name__} does not state the classes of its images '
                        '(get_cat_ids); use another sampler, or the data set inside it') from None
    images = Counter(label for labels in classes for label in labels)
    most = max(images.values(), default=1)
    weights = [max(((most / images[label]) ** power for label in labels), default=1.0) for labels in classes]
    if not all(map(math.isfinite, weights)):
        raise UserError(f'ClassBalancedSampler: power={power} is too large for these classes')
    return torch.tensor(weights, dtype=torch.float64)
