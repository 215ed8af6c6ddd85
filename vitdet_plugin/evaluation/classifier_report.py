"""Evaluation report of a classifier: precision, recall and F1 of each class, confusion matrix, misclassified images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.classifications import ClassifiedSplit, classify_split


@dataclass
class ClassifierReport:
    """Results of a classifier on one split; all values except counts are in [0, 1].

    Attributes:
        classes: Names of the K classes.
        confusion: Counts of shape ``(K, K)``; rows are the true classes, columns the predicted ones.
        precision: Precision of each class, of shape ``(K,)``; 0 if the class was never predicted.
        recall: Recall of each class, of shape ``(K,)``; 0 if the class has no images.
        f1: F1 score of each class, of shape ``(K,)``; 0 where it is undefined.
        top1: Accuracy.
        top5: Top-5 accuracy; None with fewer than six classes.
        mistakes: Misclassified images as (file, true class, predicted class, score), highest score first.
    """

    classes: list[str]
    confusion: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    top1: float
    top5: float | None
    mistakes: list[tuple[str, str, str, float]] = field(default_factory=list)

    @property
    def support(self) -> np.ndarray:
        """Number of images of each class, of shape ``(K,)``."""
        return self.confusion.sum(1)

    def averages(self) -> dict[str, tuple[float, float, float]]:
        """Return mean precision, recall and F1 over classes with images, unweighted (macro) and weighted by support."""
        present = self.support > 0
        rows = np.stack([self.precision, self.recall, self.f1])[:, present]
        return dict(macro=tuple(rows.mean(1).tolist()),
                    weighted=tuple(np.average(rows, axis=1, weights=self.support[present]).tolist()))

    def as_dict(self) -> dict[str, Any]:
        """Return the report in a form that can be written as JSON."""
        per_class = {name: dict(precision=float(p), recall=float(r), f1=float(f), support=int(n)) for name, p, r, f, n
                     in zip(self.classes, self.precision, self.recall, self.f1, self.support)}
        averages = {name: dict(zip(('precision', 'recall', 'f1'), values)) for name, values in self.averages().items()}
        return dict(top1=self.top1, top5=self.top5, **averages, per_class=per_class, classes=self.classes,
                    confusion=self.confusion.tolist(),
                    mistakes=[dict(zip(('file', 'truth', 'predicted', 'score'), each)) for each in self.mistakes])

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.classes, 'weighted mean'))
        lines = [f'{"":<{width}} precision   recall       F1   images']
        for name, *values, count in zip(self.classes, self.precision, self.recall, self.f1, self.support):
            lines.append(f'{name:<{width}}' + ''.join(f' {value:>8.4f}' for value in values) + f' {count:>9}')
        for name, values in self.averages().items():
            lines.append(f'{name + " mean":<{width}}' + ''.join(f' {value:>8.4f}' for value in values)
                         + f' {self.support.sum():>9}')
        top5 = '' if self.top5 is None else f'  top-5 {self.top5:.4f}'
        return '\n'.join([*lines, '', *_confusion_lines(self), '', f'top-1 {self.top1:.4f}{top5}  macro-F1 '
                          f'{self.averages()["macro"][2]:.4f}'])


def classifier_report(loaded: LoadedModel, split: str = 'test', batch_size: int = 32) -> ClassifierReport:
    """Evaluate a classifier on a split of its config; arguments and errors as :func:`classify_split`."""
    return report_of_split(classify_split(loaded, split, batch_size))


def report_of_split(split: ClassifiedSplit) -> ClassifierReport:
    """Build a report from the scores of a split; see :func:`classifier_report`."""
    return build_report(split.truth, split.scores, split.classes, split.files)


def build_report(truth: np.ndarray, scores: np.ndarray, classes: Sequence[str] = (),
                 files: Sequence[str] = ()) -> ClassifierReport:
    """Build a report from labels and scores.

    Args:
        truth: Class indices of shape ``(N,)``.
        scores: Probabilities of shape ``(N, K)``.
        classes: Names of the K classes; their indices by default.
        files: Names of the N images for ``ClassifierReport.mistakes``; their indices by default.

    Raises:
        UserError: If the number of scores differs from the number of classes.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
    labels = np.arange(scores.shape[1])
    classes = list(classes) or [str(label) for label in labels]
    if len(classes) != len(labels) or truth.max() >= len(labels):
        raise UserError(f'the model has {len(labels)} classes, but the dataset has '
                        f'{max(len(classes), truth.max() + 1)}. Use the config and dataset of the checkpoint.')
    predicted = scores.argmax(1)
    precision, recall, f1, _ = precision_recall_fscore_support(truth, predicted, labels=labels, zero_division=0)
    top5 = None
    if len(labels) > 5:
        best = np.argpartition(-scores, 4, axis=1)[:, :5]
        top5 = float((best == truth[:, None]).any(1).mean())
    wrong = [index for index in np.argsort(-scores.max(1), kind='stable') if predicted[index] != truth[index]]
    mistakes = [(files[index] if len(files) else str(index), classes[truth[index]], classes[predicted[index]],
                 float(scores[index].max())) for index in wrong]
    return ClassifierReport(classes, confusion_matrix(truth, predicted, labels=labels), precision, recall, f1,
                            float((predicted == truth).mean()), top5, mistakes)


def _confusion_lines(report: ClassifierReport) -> list[str]:
    """Format the confusion matrix for up to 30 classes, otherwise the 20 most frequent confusions."""
    count = len(report.classes)
    if count <= 30:
        width = max(len(name) for name in report.classes)
        cell = max(len(str(report.confusion.max())), len(str(count))) + 1
        return ['confusion matrix (rows: true class, columns: predicted class, in the same order)', *[
            f'{name:<{width}} ' + ''.join(f'{value if value else ".":>{cell}}' for value in row)
            for name, row in zip(report.classes, report.confusion)]]
    off = report.confusion - np.diag(np.diag(report.confusion))
    order = np.argsort(-off, axis=None)[:20]
    pairs = [np.unravel_index(index, off.shape) for index in order if off.flat[index]]
    return ['most frequent confusions', *[f'  {off[row, column]:>6}  {report.classes[row]} predicted as '
                                          f'{report.classes[column]}' for row, column in pairs]]
