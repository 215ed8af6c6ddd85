"""What a classifier gets right and wrong: precision, recall and F1 of each class, the confusion matrix, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitdet_plugin.engine.load_model import LoadedModel, build_dataset, predict_dataset
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track


@dataclass
class ClassifierReport:
    """Results on one split; everything in [0, 1] except counts.

    Attributes:
        classes: names.
        confusion: (K, K) counts; rows are the true classes, columns the predicted ones.
        precision, recall, f1: (K,); 0 where nothing was predicted, or where there is nothing to find.
        top1, top5: accuracy; ``top5`` is None with fewer than six classes.
        mistakes: (file, true class, predicted class, score of the latter), the most confident first.
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
        """(K,) pictures of each class."""
        return self.confusion.sum(1)

    def averages(self) -> dict[str, tuple[float, float, float]]:
        """Precision, recall and F1 as mean over classes that have pictures (macro), and weighted by their number."""
        there = self.support > 0
        rows = np.stack([self.precision, self.recall, self.f1])[:, there]
        return dict(macro=tuple(rows.mean(1).tolist()),
                    weighted=tuple(np.average(rows, axis=1, weights=self.support[there]).tolist()))

    def as_dict(self) -> dict[str, Any]:
        """For ``json.dump``."""
        per_class = {name: dict(precision=float(p), recall=float(r), f1=float(f), support=int(n)) for name, p, r, f, n
                     in zip(self.classes, self.precision, self.recall, self.f1, self.support)}
        averages = {name: dict(zip(('precision', 'recall', 'f1'), values)) for name, values in self.averages().items()}
        return dict(top1=self.top1, top5=self.top5, **averages, per_class=per_class, classes=self.classes,
                    confusion=self.confusion.tolist(),
                    mistakes=[dict(zip(('file', 'truth', 'predicted', 'score'), each)) for each in self.mistakes])

    def __str__(self) -> str:
        width = max(len(name) for name in (*self.classes, 'weighted mean'))
        lines = [f'{"":<{width}} precision   recall       F1 pictures']
        for name, *values, count in zip(self.classes, self.precision, self.recall, self.f1, self.support):
            lines.append(f'{name:<{width}}' + ''.join(f' {value:>8.4f}' for value in values) + f' {count:>9}')
        for name, values in self.averages().items():
            lines.append(f'{name + " mean":<{width}}' + ''.join(f' {value:>8.4f}' for value in values)
                         + f' {self.support.sum():>9}')
        top5 = '' if self.top5 is None else f'  top-5 {self.top5:.4f}'
        return '\n'.join([*lines, '', *_confusion_lines(self), '', f'top-1 {self.top1:.4f}{top5}  macro-F1 '
                          f'{self.averages()["macro"][2]:.4f}'])


def classifier_report(loaded: LoadedModel, split: str = 'test', batch_size: int = 32) -> ClassifierReport:
    """Predict a split of the config and compare with its labels.

    Args:
        loaded: A classifier.
        split: ``test``, ``val`` or ``train``: which ``*_dataloader`` of the config.
        batch_size: Pictures at once.

    Raises:
        UserError: No such split, or data without labels.
    """
    dataset = build_dataset(loaded.cfg, split)
    classes = loaded.classes or list(dataset.metainfo.get('classes') or ())
    truth, scores, files = [], [], []
    for index, sample in enumerate(track(predict_dataset(loaded, dataset, batch_size), len(dataset), 'pictures')):
        if 'gt_label' not in sample or sample.gt_label.numel() != 1:
            raise UserError(f'{split}_dataloader: picture {index} has no single label to compare with')
        truth.append(int(sample.gt_label))
        scores.append(sample.pred_score.cpu().numpy())
        files.append(str(sample.get('img_path', index)))
    if not truth:
        raise UserError(f'{split}_dataloader has no pictures')
    there = list(dataset.metainfo.get('classes') or ())
    if classes and there and classes != there:
        raise UserError(f'the checkpoint was trained on the classes {", ".join(classes)}, the {split} split has '
                        f'{", ".join(there)}; labels would be mixed up')
    return report_of(np.array(truth), np.stack(scores), classes, files)


def report_of(truth: np.ndarray, scores: np.ndarray, classes: Sequence[str] = (),
              files: Sequence[str] = ()) -> ClassifierReport:
    """The report of scores that are there already.

    Args:
        truth: (N,) class indexes.
        scores: (N, K) probabilities.
        classes: K names; numbers by default.
        files: N names for the list of mistakes.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
    labels = np.arange(scores.shape[1])
    classes = list(classes) or [str(label) for label in labels]
    if len(classes) != len(labels) or truth.max() >= len(labels):
        raise UserError(f'the model scores {len(labels)} classes, the data has {max(len(classes), truth.max() + 1)}')
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
    """The matrix for up to 30 classes; of more only what is mixed up most often."""
    count = len(report.classes)
    if count <= 30:
        width = max(len(name) for name in report.classes)
        cell = max(len(str(report.confusion.max())), len(str(count))) + 1
        return ['confusion (rows: truth, columns: predicted, in the same order)', *[
            f'{name:<{width}} ' + ''.join(f'{value if value else ".":>{cell}}' for value in row)
            for name, row in zip(report.classes, report.confusion)]]
    off = report.confusion - np.diag(np.diag(report.confusion))
    order = np.argsort(-off, axis=None)[:20]
    pairs = [np.unravel_index(place, off.shape) for place in order if off.flat[place]]
    return ['mixed up most often', *[f'  {off[row, column]:>6}  {report.classes[row]} taken for '
                                     f'{report.classes[column]}' for row, column in pairs]]
