"""Precision, recall and F1 of a classifier, averaged over the classes that have images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
        """Collect true and predicted label of each sample."""
        self.results += [(int(sample['gt_label']), int(sample['pred_score'].argmax())) for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return the means."""
        from sklearn.metrics import precision_recall_fscore_support
        truth, predicted = zip(*results)
        means = precision_recall_fscore_support(truth, predicted, labels=sorted(set(truth)), average='macro',
                                                zero_division=0)[:3]
        values = {name: 100 * float(mean) for name, mean in zip(_ITEMS, means)} | {'support': float(len(truth))}
        return {name: values[name] for name in self.items}
