"""Figures of the reports of classifiers and detectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitdet_plugin.datasets.image_reader import decode
from vitdet_plugin.evaluation.classifier_report import ClassifierReport
from vitdet_plugin.evaluation.detector_report import RECALLS, DetectorReport
from vitdet_plugin.utils.text import counted
from vitdet_plugin.visualization.draw import write_figure
from vitdet_plugin.visualization.figures import new_figure, plain, save, style_axes
from vitdet_plugin.visualization.sheet import contact_sheet

_MAX_CLASSES = 40  # with more classes, counts in the cells would be unreadable
_MOST_CURVES = 12  # classes with a precision-recall curve
_COLORS = ('#2e86f0', '#3abe60', '#fa9e20')


def draw_confusion(matrix: np.ndarray, classes: Sequence[str], out_png: Path, title: str) -> Path:
    """Draw a confusion matrix to a PNG file.

    Args:
        matrix: Counts of shape ``(K, K)``, true classes by predicted ones; the color is the fraction of the row.
        classes: Names of the K classes.
        out_png: Output file.
        title: Title of the figure.

    Returns:
        ``out_png``.
    """
    count = len(classes)
    figure, axes = _figure(max(6.0, min(2.6 + 0.42 * count, 24)), max(5.0, min(2.0 + 0.40 * count, 23)))
    fraction = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    image = axes.imshow(fraction, cmap='Blues', vmin=0, vmax=1, aspect='auto')
    size = 8 if count <= _MAX_CLASSES else max(3, 330 / count)
    axes.set_xticks(range(count), [plain(name) for name in classes], rotation=90, fontsize=size)
    axes.set_yticks(range(count), [plain(name) for name in classes], fontsize=size)
    axes.set(xlabel='predicted', ylabel='true', title=title)
    if count <= _MAX_CLASSES:
        for row, column in np.argwhere(matrix > 0):
            axes.text(column, row, matrix[row, column], ha='center', va='center', fontsize=8,
                      color='white' if fraction[row, column] > 0.55 else 'black')
    axes.figure.colorbar(image, ax=axes, label='fraction of the true class', fraction=0.04)
    return save(figure, out_png)


def draw_class_scores(report: ClassifierReport, out_png: Path) -> Path:
    """Draw precision, recall and F1 of each class as bars, lowest F1 first."""
    order = np.argsort(report.f1, kind='stable')
    figure, axes = _figure(8, max(4.0, min(1.5 + 0.42 * len(order), 40)))
    positions = np.arange(len(order))
    for offset, name, values, color in zip((-0.27, 0, 0.27), ('precision', 'recall', 'F1'),
                                            (report.precision, report.recall, report.f1), _COLORS):
        axes.barh(positions + offset, values[order], height=0.26, label=name, color=color)
    names = [plain(f'{report.classes[label]} ({report.support[label]})') for label in order]
    axes.set_yticks(positions, names, fontsize=8)
    macro = report.averages()['macro'][2]
    axes.axvline(macro, color='black', linewidth=0.9, linestyle=':')
    axes.set(xlim=(0, 1), ylim=(len(order) - 0.4, -0.6),
             title=f'top-1 {report.top1:.3f} · macro-F1 {macro:.3f} (dotted)')
    figure.legend(*axes.get_legend_handles_labels(), loc='outside lower center', ncols=3, frameon=False)
    style_axes(axes)
    return save(figure, out_png)


def draw_pr_curves(report: DetectorReport, out_png: Path) -> Path:
    """Draw precision-recall curves: the mean at IoU 0.50 and 0.75, and the most frequent classes at IoU 0.50."""
    figure, axes = _figure(8, 5.5)
    present = np.flatnonzero(np.isfinite(report.ap[:, 0]))
    for index, iou in enumerate((0.5, 0.75)):
        mean = np.nanmean(report.curves[present, index], 0) if len(present) else np.zeros(len(RECALLS))
        axes.plot(RECALLS, mean, color='black', linewidth=2.2, linestyle='-' if index == 0 else '--',
                  label=f'mean, IoU {iou:.2f} ({report.mean_ap()[1 + index]:.3f})')
    for label in present[np.argsort(-report.objects[present], kind='stable')][:_MOST_CURVES]:
        axes.plot(RECALLS, report.curves[label, 0], linewidth=1.2,
                  label=plain(f'{report.classes[label]} ({report.ap[label, 1]:.3f})'))
    note = f', {_MOST_CURVES} most frequent of {len(present)} classes' if len(present) > _MOST_CURVES else ''
    axes.set(xlabel='recall', ylabel='precision', xlim=(0, 1), ylim=(0, 1.02),
             title=f'precision and recall at IoU 0.50{note}; AP in parentheses')
    figure.legend(*axes.get_legend_handles_labels(), loc='outside right upper', fontsize=8, frameon=False)
    style_axes(axes)
    return save(figure, out_png)


def draw_errors(report: DetectorReport, out_png: Path) -> Path:
    """Draw the numbers of correct boxes and of errors of each type as bars."""
    names = ['correct', *report.errors]
    values = [int(np.trace(report.confusion[:-1, :-1])), *report.errors.values()]
    figure, axes = _figure(7, 3.6)
    axes.barh(range(len(names)), values, color=['#3abe60'] + ['#e63946'] * len(report.errors), height=0.7)
    for position, value in enumerate(values):
        axes.text(value, position, f' {value}', va='center', fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set(ylim=(len(names) - 0.4, -0.6),
             title=f'boxes with score ≥ {report.score_thr:g} at IoU 0.5, {counted(report.images, "image")}')
    style_axes(axes)
    return save(figure, out_png)


def _figure(width: float, height: float):
    figure = new_figure(width, height)
    return figure, figure.subplots()


def draw_classifier_report(report: ClassifierReport, folder: Path, mistakes: int = 24) -> list[Path]:
    """Write the figures of a classifier report: confusion matrix, scores of each class and misclassified images.

    Args:
        report: The report.
        folder: Output folder.
        mistakes: Maximum number of misclassified images, highest score first.

    Returns:
        The files written.
    """
    written = [draw_confusion(report.confusion, report.classes, folder / 'confusion.png',
                              f'{counted(report.support.sum(), "image")}, top-1 {report.top1:.3f}'),
               draw_class_scores(report, folder / 'classes.png')]
    images, captions = [], []
    for file, truth, predicted, score in report.mistakes[:mistakes]:
        image = decode(file)
        if image is not None:
            images.append(image[..., ::-1])
            captions.append(f'{predicted} {score:.2f}\ntruth: {truth}\n{Path(file).name}')
    if images:
        written.append(folder / 'mistakes.jpg')
        write_figure(written[-1], contact_sheet(images, captions))
    return written


def draw_detector_report(report: DetectorReport, folder: Path) -> list[Path]:
    """Write the figures of a detector report: precision-recall curves, confusion matrix and error types.

    Args:
        report: The report.
        folder: Output folder.

    Returns:
        The files written.
    """
    return [draw_pr_curves(report, folder / 'curves.png'),
            draw_confusion(report.confusion, [*report.classes, 'background'], folder / 'confusion.png',
                           f'boxes with score ≥ {report.score_thr:g} at IoU 0.5'),
            draw_errors(report, folder / 'errors.png')]
