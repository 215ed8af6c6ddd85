"""Sections of the page about the results of a detector."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

import numpy as np

from vitdet_plugin.evaluation.average_precision import RECALLS, SIZES, AveragePrecision
from vitdet_plugin.evaluation.box_errors import ERRORS
from vitdet_plugin.evaluation.detector_report import UNJUDGED, DetectorReport, mean_of_classes
from vitdet_plugin.evaluation.score_threshold import THRESHOLDS
from vitdet_plugin.visualization.html_report.charts import COLORS, Line, line_chart
from vitdet_plugin.visualization.html_report.confusion import confusion_table
from vitdet_plugin.visualization.html_report.elements import note, number, section, table, tag

_MOST_CURVES = 12  # classes in a chart


def headline(report: DetectorReport) -> list[tuple[str, str]]:
    """Return names and values of the main metrics."""
    kinds = [('box', report.boxes)] + ([] if report.masks is None else [('mask', report.masks)])
    values = []
    for kind, scores in kinds:
        mean = mean_of_classes(scores.ap)
        values += [(f'{kind} AP', number(mean[0])), (f'{kind} AP50', number(mean[1]))]
        values += [(f'{kind} AP75', number(mean[2]))] if len(kinds) == 1 else []
    best = report.thresholds.best
    if best is not None:
        values += [(f'F1 at score {THRESHOLDS[best]:.2f}', number(report.thresholds.f1[best]))]
    return values


def detector_sections(report: DetectorReport) -> Iterator[Element]:
    """Yield the sections of a report, without images."""
    yield _precision_by_class(report)
    yield _precision_recall(report)
    yield _thresholds(report)
    yield section('Confusion matrix', note(f'Boxes with score ≥ {report.score_thr:g}, matched at IoU 0.5. Row '
                                           'background: boxes without an object; column background: objects without '
                                           'a box.'),
                  confusion_table(report.confusion, [*report.classes, 'background']))
    yield _errors(report)


def _precision_by_class(report: DetectorReport) -> Element:
    columns = ['class', 'objects', *_names('', report.masks is not None)]
    rows = []
    for label in [*range(len(report.classes)), None]:
        name = tag('b', 'all classes') if label is None else report.classes[label]
        count = report.objects.sum() if label is None else report.objects[label]
        rows.append([name, str(count), *_values(report.boxes, label)])
        if report.masks is not None:
            masks = mean_of_classes(report.masks.ap) if label is None else report.masks.ap[label]
            rows[-1] += [number(value) for value in masks[:2]]
    per_class = table(columns, rows, bars=(2,))
    sizes = [[f'{size} objects', str(report.objects_of_size[:, index].sum()),
              number(mean_of_classes(report.boxes.by_size)[index]),
              *([] if report.masks is None else [number(mean_of_classes(report.masks.by_size)[index])])]
             for index, size in enumerate(SIZES)]
    by_size = table(['size', 'objects', 'AP', *([] if report.masks is None else ['mask AP'])], sizes, False, (2,))
    definition = 'COCO' if report.unjudged is None else 'LVIS'
    return section('Average precision', per_class, tag('h3', 'By size'), by_size, note(
        f'AP as {definition} defines it: the mean over IoU 0.50 to 0.95; AP50 and AP75 at one IoU. Sizes are those of '
        f'{"masks" if report.masks is not None else "boxes"}: small below 32 x 32 pixels, large from 96 x 96. A dash: '
        'no objects.'))


def _names(prefix: str, with_masks: bool) -> list[str]:
    names = ['AP', 'AP50', 'AP75', *(f'AP {size}' for size in SIZES)]
    return [f'{prefix}{name}' for name in names] + (['mask AP', 'mask AP50'] if with_masks else [])


def _values(scores: AveragePrecision, label: int | None) -> list[str]:
    rows = [mean_of_classes(each) if label is None else each[label] for each in (scores.ap, scores.by_size)]
    return [number(value) for row in rows for value in row]


def _precision_recall(report: DetectorReport) -> Element:
    present = np.flatnonzero(np.isfinite(report.ap[:, 0]))
    charts = []
    for kind, scores in (('boxes', report.boxes), ('masks', report.masks)):
        if scores is None:
            continue
        chosen = present[np.argsort(-report.objects[present], kind='stable')][:_MOST_CURVES]
        lines = [Line(f'{report.classes[label]} ({number(scores.ap[label, 1])})',
                      np.stack([RECALLS, scores.curves[label, 0]], 1), index, index >= COLORS)
                 for index, label in enumerate(chosen)]
        for index, iou in enumerate((0.5, 0.75)):
            mean = mean_of_classes(scores.curves[:, index])
            value = number(mean_of_classes(scores.ap)[1 + index])
            lines.append(Line(f'mean at IoU {iou:.2f} ({value})', np.stack([RECALLS, mean], 1), None, bool(index)))
        charts.append(line_chart(f'Precision over recall, {kind}', lines, 'recall', (0, 1.02), (0, 1)))
    few = f' The {_MOST_CURVES} most frequent of {len(present)} classes.' if len(present) > _MOST_CURVES else ''
    return section('Precision and recall', tag('div', charts, class_='grid'),
                   note(f'Classes at IoU 0.50, with their AP50.{few}'))


def _thresholds(report: DetectorReport) -> Element:
    curve, best = report.thresholds, report.thresholds.best
    if best is None:
        return section('Score threshold', note('Left out: no box is matched with an object of its class.'))
    advice = tag('p', 'Suggested threshold: ', tag('b', f'{THRESHOLDS[best]:.2f}'),
                 f' (F1 {number(curve.f1[best])}, precision {number(curve.precision[best])}, recall '
                 f'{number(curve.recall[best])}). Use it as ', tag('code', f'--score-thr {THRESHOLDS[best]:.2f}'),
                 ' of vitdet predict; choose a lower one if missed objects cost more than wrong boxes.')
    lines = [Line(name, np.stack([THRESHOLDS, values], 1), color) for name, values, color in
             (('F1', curve.f1, None), ('precision', curve.precision, 0), ('recall', curve.recall, 1))]
    chart = line_chart('All classes', lines, 'lowest score', (0, 1.02), (0, 1),
                       [(THRESHOLDS[best], f'{THRESHOLDS[best]:.2f}')])
    rows = []
    for name, each, count in zip(report.classes, report.class_thresholds, report.objects):
        at = each.best
        values = (None,) * 4 if at is None else (THRESHOLDS[at], each.f1[at], each.precision[at], each.recall[at])
        rows.append([name, str(count), number(values[0], 2), *(number(value) for value in values[1:])])
    return section('Score threshold', advice, tag('div', chart, table(
        ['class', 'objects', 'threshold', 'F1', 'precision', 'recall'], rows, bars=(3,)), class_='grid'),
        note('Boxes at IoU 0.5. The thresholds were chosen on these images; on new ones F1 may be lower.'))


def _errors(report: DetectorReport) -> Element:
    total = max(1, sum(report.errors.values()))
    rows = [[kind, str(report.errors[kind]), f'{report.errors[kind] / total:.3f}', meaning]
            for kind, meaning in ERRORS.items()]
    return section('Types of errors', note(f'{report.correct} boxes with score ≥ {report.score_thr:g} are correct at '
                                           f'IoU 0.5; {sum(report.errors.values())} errors in {report.images} images:'),
                   table(['error', 'number', 'fraction', 'meaning'], rows, bars=(2,), texts=(3,)),
                   None if report.unjudged is None else note(f'{report.unjudged} more boxes are not judged: '
                                                             f'{UNJUDGED}.'),
                   note('After TIDE (arXiv:2008.08115), counted at one score threshold.'))
