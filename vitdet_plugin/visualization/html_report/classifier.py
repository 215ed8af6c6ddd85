"""Sections of the page about the results of a classifier."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from vitdet_plugin.evaluation.calibration import calibration
from vitdet_plugin.evaluation.classifications import ClassifiedSplit
from vitdet_plugin.evaluation.classifier_report import ClassifierReport
from vitdet_plugin.visualization.html_report.charts import Line, line_chart
from vitdet_plugin.visualization.html_report.confusion import confusion_table
from vitdet_plugin.visualization.html_report.elements import note, number, section, table, tag


def headline(report: ClassifierReport) -> list[tuple[str, str]]:
    """Return names and values of the main metrics."""
    top5 = [] if report.top5 is None else [('top-5', number(report.top5))]
    return [('top-1', number(report.top1)), *top5, ('macro F1', number(report.averages()['macro'][2]))]


def classifier_sections(report: ClassifierReport, split: ClassifiedSplit) -> Iterator[Element]:
    """Yield the sections of a report, without images."""
    yield _classes(report)
    yield section('Confusion matrix', confusion_table(report.confusion, report.classes))
    yield _calibration(split)


def _classes(report: ClassifierReport) -> Element:
    rows: list[list] = [[name, str(count), number(recall), number(precision), number(f1)] for name, count, recall,
                        precision, f1 in zip(report.classes, report.support, report.recall, report.precision,
                                             report.f1)]
    for name, (precision, recall, f1) in report.averages().items():
        rows.append([tag('b', f'{name} mean'), str(report.support.sum()), number(recall), number(precision),
                     number(f1)])
    return section('Accuracy by class', table(['class', 'images', 'accuracy', 'precision', 'F1'], rows, bars=(2,)),
                   note('Accuracy of a class: the fraction of its images that are classified correctly (recall). Means '
                        'over the classes with images: macro without weights, weighted by the number of images.'))


def _calibration(split: ClassifiedSplit) -> Element:
    found = calibration(split.scores.max(1), split.is_correct)
    chart = line_chart('Accuracy over confidence', [
        Line('accuracy', np.stack([found.confidence, found.accuracy], 1), 0, has_markers=True),
        Line('calibrated', np.array([[0.0, 0.0], [1.0, 1.0]]), None, is_dashed=True)], 'score of the predicted class',
        (0, 1.02), (0, 1))
    bins = len(found.counts)
    rows = [[f'{index / bins:.1f} to {(index + 1) / bins:.1f}', str(count), number(confidence), number(accuracy)]
            for index, (count, confidence, accuracy) in enumerate(zip(found.counts, found.confidence, found.accuracy))
            if count]
    difference = float(split.scores.max(1).mean() - split.is_correct.mean())
    tendency = 'too confident' if difference > 0 else 'not confident enough'
    return section('Calibration', tag('p', 'Expected calibration error: ', tag('b', number(found.error)),
                                      f'. On average the scores are {tendency} by {abs(difference):.3f}.'),
                   tag('div', chart, table(['score', 'images', 'mean score', 'accuracy'], rows, False), class_='grid'))
