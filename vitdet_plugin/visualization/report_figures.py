"""Reports of classifiers and detectors as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitdet_plugin.evaluation.classifier_report import ClassifierReport
from vitdet_plugin.evaluation.detector_report import RECALLS, DetectorReport
from vitdet_plugin.visualization.figures import new_figure, tidy
from vitdet_plugin.visualization.sheet import contact_sheet

_MOST_CLASSES = 40  # with more than that, text in the cells cannot be read and is left out
_COLOURS = ('#2e86f0', '#3abe60', '#fa9e20')


def draw_confusion(matrix: np.ndarray, rows: Sequence[str], columns: Sequence[str], out_png: Path,
                   title: str) -> Path:
    """Counts in cells, coloured by their share of the row (of the true class), into a PNG."""
    count = len(rows)
    figure, axes = _figure(max(6.0, min(2.6 + 0.42 * count, 24)), max(5.0, min(2.0 + 0.40 * count, 23)))
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(share, cmap='Blues', vmin=0, vmax=1, aspect='auto')
    size = 8 if count <= _MOST_CLASSES else max(3, 330 / count)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=size)
    axes.set_yticks(range(count), rows, fontsize=size)
    axes.set(xlabel='predicted', ylabel='true', title=title)
    if count <= _MOST_CLASSES:
        for row, column in np.argwhere(matrix > 0):
            axes.text(column, row, matrix[row, column], ha='center', va='center', fontsize=8,
                      color='white' if share[row, column] > 0.55 else 'black')
    axes.figure.colorbar(image, ax=axes, label='share of the true class', fraction=0.04)
    return _save(figure, out_png)


def draw_class_scores(report: ClassifierReport, out_png: Path) -> Path:
    """Precision, recall and F1 of each class as bars, the worst F1 on top."""
    order = np.argsort(report.f1, kind='stable')
    figure, axes = _figure(8, max(4.0, min(1.5 + 0.42 * len(order), 40)))
    places = np.arange(len(order))
    for offset, name, values, colour in zip((-0.27, 0, 0.27), ('precision', 'recall', 'F1'),
                                            (report.precision, report.recall, report.f1), _COLOURS):
        axes.barh(places + offset, values[order], height=0.26, label=name, color=colour)
    axes.set_yticks(places, [f'{report.classes[label]} ({report.support[label]})' for label in order], fontsize=8)
    macro = report.averages()['macro'][2]
    axes.axvline(macro, color='black', linewidth=0.9, linestyle=':')
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.4, -0.6),
             title=f'top-1 {report.top1:.3f} · macro-F1 {macro:.3f} (dotted)')
    figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', ncols=3, frameon=False)
    return _save(_tidy(axes), out_png)


def draw_curves_of_classes(report: DetectorReport, out_png: Path, most: int = 12) -> Path:
    """Precision over recall at IoU 0.50: the mean of all classes, and the ``most`` classes with the most objects."""
    figure, axes = _figure(8, 5.5)
    there = np.flatnonzero(np.isfinite(report.ap[:, 0]))
    for place, iou in enumerate((0.5, 0.75)):
        mean = np.nanmean(report.curves[there, place], 0) if len(there) else np.zeros(len(RECALLS))
        axes.plot(RECALLS, mean, color='black', linewidth=2.2, linestyle='-' if place == 0 else '--',
                  label=f'mean, IoU {iou:.2f} ({report.mean_ap()[1 + place]:.3f})')
    for label in there[np.argsort(-report.objects[there], kind='stable')][:most]:
        axes.plot(RECALLS, report.curves[label, 0], linewidth=1.2,
                  label=f'{report.classes[label]} ({report.ap[label, 1]:.3f})')
    note = f', {most} most frequent of {len(there)} classes' if len(there) > most else ''
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02),
             title=f'precision and recall at IoU 0.50{note}; in brackets: AP')
    figure.legend(*axes.get_legend_handles_labels(), loc='outside right upper', fontsize=8, frameon=False)
    return _save(_tidy(axes), out_png)


def draw_errors(report: DetectorReport, out_png: Path) -> Path:
    """Right boxes and each kind of error as bars."""
    names = ['right', *report.errors]
    values = [int(np.trace(report.confusion[:-1, :-1])), *report.errors.values()]
    figure, axes = _figure(7, 3.6)
    axes.barh(range(len(names)), values, color=['#3abe60'] + ['#e63946'] * len(report.errors), height=0.7)
    for place, value in enumerate(values):
        axes.text(value, place, f' {value}', va='center', fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.4, -0.6), title=f'boxes of score ≥ {report.score_thr:g} at IoU 0.5, {report.images} '
                                                 'pictures')
    return _save(_tidy(axes), out_png)


def _figure(width: float, height: float):
    figure = new_figure(width, height)
    return figure, figure.subplots()


def _tidy(axes):
    tidy(axes)
    return axes.figure


def _save(figure, out_png: Path) -> Path:
    out_png.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_png)
    return out_png


def draw_classifier_report(report: ClassifierReport, folder: Path, mistakes: int = 24) -> list[Path]:
    """Confusion matrix, scores of each class and, if there are any, the most confident mistakes into a folder."""
    import cv2
    written = [draw_confusion(report.confusion, report.classes, report.classes, folder / 'confusion.png',
                              f'{report.support.sum()} pictures, top-1 {report.top1:.3f}'),
               draw_class_scores(report, folder / 'classes.png')]
    images, captions = [], []
    for file, truth, predicted, score in report.mistakes[:mistakes]:
        image = cv2.imread(file, cv2.IMREAD_COLOR)
        if image is not None:
            images.append(image[..., ::-1])
            captions.append(f'{predicted} {score:.2f}\nis {truth}\n{Path(file).name}')
    if images:
        written.append(folder / 'mistakes.jpg')
        cv2.imwrite(str(written[-1]), contact_sheet(images, captions)[..., ::-1])
    return written


def draw_detector_report(report: DetectorReport, folder: Path) -> list[Path]:
    """Precision-recall curves, confusion matrix and kinds of errors into a folder."""
    return [draw_curves_of_classes(report, folder / 'curves.png'),
            draw_confusion(report.confusion, [*report.classes, 'background'], [*report.classes, 'missed'],
                           folder / 'confusion.png', f'boxes of score ≥ {report.score_thr:g} at IoU 0.5'),
            draw_errors(report, folder / 'errors.png')]
