"""Precision, recall and F1 of a classifier, averaged over the classes that have images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from vitdet_plugin.errors import UserError

_ITEMS = ('precision', 'recall', 'f1-score', 'support')


@METRICS.register_module()
class ClassMeans(BaseMetric):
    """mmpretrain's ``SingleLabelMetric`` with ``average='macro'``, over the classes with images only.

    mmpretrain counts a class without validation images as 0, so that the mean cannot reach 100. Names of the values are
    the same.

    Args:
        items: Which of ``'precision'``, ``'recall'``, ``'f1-score'`` (means in percent) and ``'support'`` (number of
            images).
        **kwargs: Arguments of mmengine's ``BaseMetric``.

    Raises:
        UserError: Another item.
    """

    default_prefix = 'single-label'

    def __init__(self, items: Sequence[str] = _ITEMS[:3], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if unknown := [item for item in items if item not in _ITEMS]:
            raise UserError(f'ClassMeans: items={unknown[0]!r} is unknown; choose from {", ".join(_ITEMS)}')
        self.items = tuple(items)

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Collect true and predicted label of each sample, and the number of classes."""
        for sample in data_samples:
            scores = sample['pred_score']
            self.results.append((int(sample['gt_label']), int(scores.argmax()), len(scores)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the means."""
        truth, predicted, counts = torch.tensor(results).unbind(1)
        confusion = torch.zeros(2 * (int(counts[0]),), dtype=torch.float64)
        confusion.index_put_((truth, predicted), torch.ones(len(truth), dtype=torch.float64), accumulate=True)
        right, support, found = confusion.diag(), confusion.sum(1), confusion.sum(0)
        values = {'precision': right / found.clamp(min=1), 'recall': right / support.clamp(min=1),
                  'f1-score': 2 * right / (support + found).clamp(min=1)}
        means = {name: 100 * float(value[support > 0].mean()) for name, value in values.items()}
        return {name: {**means, 'support': float(support.sum())}[name] for name in self.items}
