"""Confusion matrices as tables."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from vitdet_plugin.visualization.html_report.elements import note, table, tag

_MOST_CLASSES, _MOST_PAIRS = 30, 30


def confusion_table(matrix: np.ndarray, classes: Sequence[str]) -> Element:
    """Return a confusion matrix, or for many classes its largest entries off the diagonal.

    Args:
        matrix: Counts of shape ``(K, K)``; rows are the true classes, columns the predicted ones.
        classes: Names of the K classes.
    """
    if len(classes) > _MOST_CLASSES:
        return _pairs(matrix, classes)
    parts = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    head = tag('tr', tag('th', 'true ↓ predicted →', scope='col'),
               [tag('th', tag('span', name), scope='col', class_='up') for name in classes])
    body = []
    for name, counts, fractions in zip(classes, matrix.tolist(), parts.tolist()):
        cells = [tag('td', str(count) if count else '·', style=f'--part:{part:.3f}' if count else None,
                     class_=None if not count else 'cell strong' if part > 0.55 else 'cell',
                     title=f'{name} as {column}: {count} ({part:.0%})' if count else None)
                 for column, count, part in zip(classes, counts, fractions)]
        body.append(tag('tr', tag('th', name, scope='row'), cells))
    return tag('div', tag('div', tag('table', tag('thead', head), tag('tbody', body), class_='matrix'),
                          class_='scroll'),
               note('The color is the fraction of the true class.'))


def _pairs(matrix: np.ndarray, classes: Sequence[str]) -> Element:
    off = matrix.copy()
    np.fill_diagonal(off, 0)
    totals = np.maximum(matrix.sum(1), 1)
    largest = [np.unravel_index(index, off.shape) for index in np.argsort(-off, axis=None, kind='stable')[:_MOST_PAIRS]]
    entries = [[classes[row], classes[column], str(off[row, column]), f'{off[row, column] / totals[row]:.3f}']
               for row, column in largest if off[row, column]]
    return tag('div', note(f'{len(classes)} classes: the most frequent confusions.'),
               table(['true', 'predicted', 'number', 'fraction of the true class'], entries, bars=(3,)))
