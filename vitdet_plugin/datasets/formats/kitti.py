"""KITTI: a text file for each image with rows of 15 columns, also as CVAT and TAO Toolkit write it."""

from __future__ import annotations

from typing import NamedTuple

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector
from vitdet_plugin.datasets.formats.row_files import find_row_files, read_rows, to_floats, weigh_row_files
from vitdet_plugin.datasets.formats.shapes import to_number
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.utils.track import track

_NUMBERS = 14  # after the class: truncation, occlusion, angle, four of the box, seven in 3D; then perhaps a score
_NO_OBJECT = 'dontcare'


class _Row(NamedTuple):
    name: str
    numbers: list[float]


def _parse(row: str) -> _Row | None:
    words = row.split()
    for count in (_NUMBERS + 1, _NUMBERS):
        numbers = to_floats(words[-count:]) if len(words) > count else None
        if numbers and to_floats(words[:-count]) is None:
            return _Row(' '.join(words[:-count]), numbers)
    return None


def _is_row(text: str) -> bool:
    return _parse(text) is not None


def _recognize(tree: FileTree) -> str | None:
    return weigh_row_files(tree, find_row_files(tree, _is_row), 'with the 15 columns of KITTI')


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'kitti')
    ignored = 0
    files = find_row_files(tree, _is_row)
    for file in track(files, len(files), 'label files'):
        for to, number, text in read_rows(collector, file):
            row = _parse(text)
            if row is None:
                collector.refuse_object(to, number, f'expected a class and 14 numbers, found {text[:60]!r}')
            elif row.name.lower() == _NO_OBJECT:
                ignored += 1
            else:
                _add_object(collector, to, number, row)
    if ignored:
        collector.found.notes.append(f'{ignored} regions "DontCare" are no objects and are left out')
    return collector.finish()


def _add_object(collector: Collector, to: AnnotatedImage, number: int, row: _Row) -> None:
    try:
        x1, y1, x2, y2 = map(to_number, row.numbers[3:7])
    except ValueError as error:
        collector.refuse_object(to, number, f'{row.name}: {error}')
        return
    collector.add_object(to, row.name, number, [shapes.rectangle(x1, y1, x2, y2)])


FORMAT = Format('kitti', 'a text file for each image with the 15 columns of KITTI (label_2 and image_2)', _recognize,
                _read)
