"""KITTI: a text file for each image with rows of 15 columns, also as CVAT and TAO Toolkit write it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vitdet_plugin.datasets.conversion import Problem
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import load_text, weigh
from vitdet_plugin.datasets.formats.row_files import find_row_files, image_names, rows_of, to_floats
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


def _recognize(tree: FileTree) -> str | None:
    files = find_row_files(tree, lambda row: _parse(row) is not None)
    if not files:
        return None
    return weigh(f'{len(files)} text files with the 15 columns of KITTI, such as {files[0]}',
                 [find_image(tree, name, file) for file in files[:20] for name in image_names(file)])


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'kitti')
    ignored = 0
    files = find_row_files(tree, lambda row: _parse(row) is not None)
    for file in track(files, len(files), 'label files'):
        where = tree.path(file)
        try:
            rows = rows_of(load_text(tree, file))
        except ValueError as error:
            collector.found.problems.append(Problem(where, *error.args))
            continue
        to = collector.add_image(image_names(file), file, objects=len(rows))
        for number, text in rows if to is not None else ():
            row = _parse(text)
            if row is None:
                collector.problem(where, number, f'expected a class and 14 numbers, found {text[:60]!r}')
            elif row.name.lower() == _NO_OBJECT:
                ignored += 1
            else:
                _add_object(collector, to, where, number, row)
    if ignored:
        collector.found.notes.append(f'{ignored} regions "DontCare" are no objects and are left out')
    return collector.finish()


def _add_object(collector: Collector, to: AnnotatedImage, where: Path, number: int, row: _Row) -> None:
    try:
        x1, y1, x2, y2 = map(to_number, row.numbers[3:7])
    except ValueError as error:
        collector.problem(where, number, f'{row.name}: {error}')
        return
    collector.add_object(to, row.name, number, [shapes.rectangle(x1, y1, x2, y2)])


FORMAT = Format('kitti', 'a text file for each image with the 15 columns of KITTI (label_2 and image_2)', _recognize,
                _read)
