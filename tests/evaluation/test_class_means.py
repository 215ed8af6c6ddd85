"""Means over the classes with images: equal to mmpretrain's if all classes have some, and to scikit-learn's."""

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.class_means import ClassMeans

ITEMS = ('precision', 'recall', 'f1-score', 'support')


def evaluate(metric, truth, scores):
    samples = [dict(gt_label=label[None], pred_score=score) for label, score in zip(truth, scores)]
    for start in range(0, len(samples), 7):
        metric.process({}, samples[start:start + 7])
    return metric.evaluate(len(samples))


def test_all_classes_have_images():
    from mmpretrain.evaluation import SingleLabelMetric
    torch.manual_seed(0)
    truth, scores = torch.arange(40) % 5, torch.rand(40, 5).softmax(1)
    own = evaluate(ClassMeans(items=ITEMS), truth, scores)
    assert own == pytest.approx(evaluate(SingleLabelMetric(items=ITEMS), truth, scores), abs=1e-4)
    assert list(own) == [f'single-label/{name}' for name in ITEMS]


def test_a_class_without_images():
    torch.manual_seed(0)
    truth, scores = torch.arange(30) % 3, torch.rand(30, 4).softmax(1)
    own = evaluate(ClassMeans(), truth, scores)
    rows = precision_recall_fscore_support(truth, scores.argmax(1), labels=range(4), zero_division=0)[:3]
    assert list(own.values()) == pytest.approx([100 * row[:3].mean() for row in rows])
    perfect = torch.nn.functional.one_hot(truth, 4).float()
    assert set(evaluate(ClassMeans(), truth, perfect).values()) == {100.0}


def test_an_unknown_item():
    with pytest.raises(UserError, match="items='f1' is unknown"):
        ClassMeans(items=['f1'])
