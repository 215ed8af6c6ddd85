"""WIDER FACE: a text file for each split with the path of an image, the number of faces, and a row for each face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import Collector, find_image
from vitdet_plugin.datasets.formats.files import head, load_text, sample, weigh
from vitdet_plugin.datasets.formats.row_files import rows_of, to_floats
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.image_files import is_image_file

_CLASS = 'face'
_INVALID = 7  # column of the flag


def _is_name(row: str) -> bool:
    return is_image_file(Path(row)) and to_floats(row.split()) is None


def _is_wider(tree: FileTree, file: PurePosixPath) -> bool:
    """Whether a file begins with an image, a count, and a row of numbers or, without faces, the next image."""
    rows = [row for _, row in rows_of(head(tree.path(file), 2**14))[:3]]
    if len(rows) < 3 or not _is_name(rows[0]) or not rows[1].isdigit():
        return False
    return len(to_floats(rows[2].split()) or ()) >= 4 or rows[1] == '0' and _is_name(rows[2])


def _files(tree: FileTree) -> list[PurePosixPath]:
    return [file for file in sample(tree.with_suffix('.txt')) if _is_wider(tree, file)]


def _recognize(tree: FileTree) -> str | None:
    files = _files(tree)
    names = [(row, file) for file in files for _, row in rows_of(head(tree.path(file), 2**14)) if _is_name(row)][:40]
    return weigh(f'{", ".join(map(str, files))} with images, counts and rows of WIDER FACE',
                 [find_image(tree, name, file) for name, file in names]) if files else None


def _entries(rows: list[tuple[int, str]]) -> Iterator[tuple[int, str, list[tuple[int, str]]]]:
    """Yield line and name of each image with its rows; the count is not needed to find them."""
    starts = [index for index, (_, row) in enumerate(rows) if _is_name(row)]
    for start, end in zip(starts, [*starts[1:], len(rows)]):
        yield (*rows[start], rows[start + 2:end])


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'wider-face')
    for file in _files(tree):
        try:
            rows = rows_of(load_text(tree, file))
        except ValueError as error:
            collector.problem(tree.path(file), *error.args)
            continue
        for line, name, listed in _entries(rows):
            # an image without faces has a row of zeros
            listed = [(number, row) for number, row in listed if any(to_floats(row.split()) or [1])]
            to = collector.add_image([name], file, line, objects=len(listed))
            for number, row in listed if to is not None else ():
                values = to_floats(row.split())
                if values is None or len(values) < 4:
                    collector.refuse_object(to, number, f'expected x, y, width and height, found {row[:60]!r}')
                    continue
                x, y, width, height = values[:4]
                added = collector.add_object(to, _CLASS, number, [shapes.rectangle(x, y, x + width, y + height)])
                if added is not None:
                    added.is_difficult = len(values) > _INVALID and values[_INVALID] == 1
    return collector.finish()


FORMAT = Format('wider-face', 'text files with the path of an image, the number of faces and a row for each face, as '
                'of WIDER FACE', _recognize, _read)
