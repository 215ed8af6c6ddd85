"""DOTA: a text file for each image with four corners, a class and a difficulty in each row."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import NamedTuple

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector
from vitdet_plugin.datasets.formats.row_files import find_row_files, read_rows, to_floats, weigh_row_files
from vitdet_plugin.datasets.formats.shapes import to_number
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.utils.track import track

_UPRIGHT = 0.5  # pixels that the corners of an upright box may differ


class _Row(NamedTuple):
    points: list[float]
    name: str
    is_difficult: bool


def _parse(text: str) -> _Row | None:
    words = text.replace(',', ' ').split()
    points = to_floats(words[:8])
    if len(words) < 9 or points is None or to_floats(words[8:9]) is not None:
        return None
    has_difficulty = len(words) > 9 and words[-1].isdigit()
    return _Row(points, ' '.join(words[8:-1] if has_difficulty else words[8:]), has_difficulty and words[-1] != '0')


def _is_row(text: str) -> bool:
    return _parse(text) is not None


def _is_header(text: str) -> bool:
    return text.lower().replace("'", '').startswith(('imagesource', 'gsd', 'acquisition'))


def _is_upright(points: list[float]) -> bool:
    return all(min(abs(value - low), abs(value - high)) <= _UPRIGHT for values in (points[::2], points[1::2])
               for low, high in [(min(values), max(values))] for value in values)


def _recognize(tree: FileTree) -> str | None:
    return weigh_row_files(tree, find_row_files(tree, _is_row, _is_header), 'with four corners and a class, as of DOTA')


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'dota')
    read: list[tuple[AnnotatedImage, int, _Row]] = []
    files = find_row_files(tree, _is_row, _is_header)
    for file in track(files, len(files), 'label files'):
        read += _read_file(collector, file)
    # one rotated box makes all of them polygons, so that the objects are alike
    are_boxes = all(_is_upright(row.points) for _, _, row in read)
    for to, number, row in read:
        try:
            points = [to_number(value) for value in row.points]
        except ValueError as error:
            collector.refuse_object(to, number, f'{row.name}: {error}')
            continue
        xs, ys = points[::2], points[1::2]
        shape = shapes.rectangle(min(xs), min(ys), max(xs), max(ys)) if are_boxes else \
            shapes.polygon([*zip(xs, ys)])
        added = collector.add_object(to, row.name, number, [shape])
        if added is not None:
            added.is_difficult = row.is_difficult
    if read and not are_boxes:
        collector.found.notes.append('boxes are rotated, which masks represent; "vitdet init --task detect" takes '
                                     'upright boxes around them')
    return collector.finish()


def _read_file(collector: Collector, file: PurePosixPath) -> list[tuple[AnnotatedImage, int, _Row]]:
    """Return the rows of a file with their image; faults become problems."""
    found = []
    for to, number, text in read_rows(collector, file, _is_header):
        row = _parse(text)
        if row is None:
            collector.refuse_object(to, number, 'expected eight numbers, a class and a difficulty, found '
                                                f'{text[:60]!r}')
        else:
            found.append((to, number, row))
    return found


FORMAT = Format('dota', 'a text file for each image with rows of four corners, class and difficulty, as of DOTA '
                '(labelTxt)', _recognize, _read)
