"""CSV tables with a row for each box, or with the label of each image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats.base import Doubtful, Format, LastResort, SourceImage, SourceSet
from vitdet_plugin.datasets.formats.shapes import choose_corners
from vitdet_plugin.datasets.formats.tables import Table, parse_number, read_pairs, read_table
from vitdet_plugin.datasets.formats.tree import SPLIT_OF, FileTree, split_of
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track

_TRIED_ROWS = 50
_BEYOND = 0.1  # by which relative coordinates may reach beyond the image
_IDENTIFIER = re.compile(r'/[a-z]/\w+')  # of Open Images: /m/01g317
_EMPTY = ('', 'nan', 'none', 'null', '[]', 'nobox')
_NUMBER = re.compile(r'[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?')


def recognize_csv(tree: FileTree) -> str | None:
    """Return the evidence for tables of boxes or labels, see :class:`Format`. Labels alone are doubtful."""
    tables = _tables(tree)
    if not tables:
        return None
    names = list_some([str(table.file) for table in tables])
    rows = sum(len(table.rows) for table in tables)
    is_found = any(isinstance(_find(tree, table, row), Path)
                   for table in tables for _, row in table.rows[:_TRIED_ROWS])
    if tables[0].box:
        evidence = f'{names} with {rows} rows and columns of boxes'
        return evidence if is_found else LastResort(f'{evidence}; none of the images was found')
    if tables[0].one_hot and is_found:
        return f'{names} with {rows} rows of images and a column of 0 and 1 for {len(tables[0].one_hot)} classes each'
    return Doubtful(f'{names} with {rows} rows of images and labels') if is_found else None


def read_csv(tree: FileTree) -> SourceSet:
    """Read all tables below the folder, see :class:`Format`."""
    found = SourceSet('csv')
    tables = _tables(tree)
    reader = _Reader(tree, found)
    if tables and tables[0].box:
        reader.read_boxes(tables)
    else:
        for table in tables:
            reader.read_labels(table)
    found.sort_classes()
    reader.add_notes()
    used = {table.file for table in tables}
    if others := [str(file) for file in tree.with_suffix('.csv', '.tsv')
                  if file not in used and file not in reader.name_files]:
        found.notes.append(f'{len(others)} CSV files are ignored: {list_some(others)}')
    found.notes += [note for note in tree.note_encodings() if any(str(file) in note for file in used)]
    in_folders = sum(file.parent.name in found.classes and found.image_at(tree.path(file)) is None
                     for file in tree.images) if found.is_classification else 0
    found.note_unused(tree, 'are in no table and are left out' + (
        f' ({in_folders} of them in folders of class names: --format class-folders reads the folders in place of the '
        'tables)' if in_folders else ''))
    return found


def _tables(tree: FileTree) -> list[Table]:
    """Return the tables of boxes or, if there are none, those of labels; those that state a split come first."""
    tables = [table for file in tree.with_suffix('.csv', '.tsv')
              if 'submission' not in file.name.lower() and (table := read_table(tree, file)) and table.rows]
    tables = [table for table in tables if table.box] or tables
    return sorted(tables, key=lambda table: (split_of(table.file) is None, table.file))


def _split(table: Table, row: list[str]) -> str | None:
    return SPLIT_OF.get(table.cell(row, 'split').lower()) or split_of(table.file)


def _find(tree: FileTree, table: Table, row: list[str]) -> Path | str:
    """Find the image of a row; a name that occurs in several folders may be completed by the class and the split."""
    name, label, split = (table.cell(row, key) for key in ('image', 'class', 'split'))
    path = tree.find_image(name, table.file, _split(table, row))
    for folders in ((label,), (split, label), (split,)):
        if isinstance(path, Path) or not name:
            break
        if all(folders):
            other = tree.find_image('/'.join((*folders, name)), table.file, _split(table, row))
            path = other if isinstance(other, Path) else path
    return path


class _Box(NamedTuple):
    table: Table
    line: int
    row: list[str]
    image: SourceImage
    numbers: list[float | None]
    name: str


class _Reader:
    """Names and counts over all tables."""

    def __init__(self, tree: FileTree, found: SourceSet) -> None:
        self.tree, self.found = tree, found
        self.counts: Counter[str] = Counter()
        self.several: Counter[str] = Counter()  # labels in rows with more than one
        self.table_of: dict[Path, PurePosixPath] = {}
        self.paths: dict[tuple, Path | str] = {}
        self.names: dict[str, str] = {}
        self.name_files: set[PurePosixPath] = set()
        for file in tree.with_suffix('.csv'):
            pairs = read_pairs(tree, file) if 'class' in file.name.lower() else {}
            if sum(bool(_IDENTIFIER.match(key)) for key in pairs) >= max(1, len(pairs) - 1):  # perhaps a header
                self.names |= pairs
                self.name_files.add(file)

    def read_boxes(self, tables: Sequence[Table]) -> None:
        """Add the images and boxes of all tables."""
        found = [each for table in tables for each in self._boxes_of_table(table)]
        is_corners = {}
        for is_usual in (True, False):
            boxes = [(each.numbers, (each.image.width, each.image.height)) for each in found
                     if each.table.box == ('boxes',) and each.table.is_corners == is_usual and
                     len(each.numbers) == 4 and None not in each.numbers]
            if boxes:
                is_corners[is_usual], note = choose_corners(boxes, is_usual)  # type: ignore[arg-type]
                self.found.notes.append(note)
        for each in found:
            box, table = each.numbers, each.table
            if table.box[-1] == 'box height' or table.box == ('boxes',) and not is_corners.get(table.is_corners):
                box = _from_size(box, table.box[0] == 'center x')
            self._object(each, box)

    def _boxes_of_table(self, table: Table) -> list[_Box]:
        """Add the images of a table and return its boxes."""
        rows = self._complete_rows(table)
        numbers = {line: _numbers(table, row) for line, row in rows}
        values = [value for found in numbers.values() for value in found or () if value is not None]
        is_relative = bool(values) and all(-_BEYOND <= value <= 1 + _BEYOND for value in values)
        if is_relative:
            self.found.notes.append(f'{table.file}: coordinates are relative to the size of the image, since none is '
                                    'above 1')
        rows_of: dict[Path | str, list[tuple[int, list[str]]]] = defaultdict(list)
        for line, row in rows:
            rows_of[self._find(table, row)].append((line, row))
        entries = track(rows_of.items(), len(rows_of), f'images of {table.file.name}')
        images = {path: image for path, rows in entries if (image := self._image(table, path, rows))}
        found = []
        for path, image in images.items():
            for line, row in rows_of[path]:
                boxes, labels = self._boxes(numbers[line], image, is_relative), table.labels(row)
                if len(labels) == 1:
                    labels *= len(boxes)
                if labels and boxes and len(labels) != len(boxes):
                    self.found.refuse_object(image, Problem(self.tree.path(table.file), line,
                                                            f'{len(boxes)} boxes and {len(labels)} classes'))
                    continue
                names = labels or [''] * len(boxes)
                found += [_Box(table, line, row, image, box, name) for box, name in zip(boxes, names)]
        return found

    def read_labels(self, table: Table) -> None:
        """Add the images and labels of a table."""
        where = self.tree.path(table.file)
        if len(table.other_numbers) >= 4:
            self.found.notes.append(f'{table.file}: the columns of numbers {", ".join(table.other_numbers)} are not '
                                    'read, and each image has one class; if they are boxes, name four of them xmin, '
                                    'ymin, xmax, ymax')
        for line, row in self._complete_rows(table):
            labels, path = table.labels(row), self._find(table, row)
            label = labels[0] if labels else ''
            if len(labels) != 1:
                fault = f'several labels ({", ".join(labels)}); keep one' if labels else 'an image without a label'
                problem = Problem(where, line, f'{table.cell(row, "image")}: {fault}')
                self.several.update(labels)
                if isinstance(path, str):
                    self.found.problems.append(problem)
                else:
                    self.found.refuse_image(path, problem)
            elif isinstance(path, str):
                self.found.problems.append(Problem(where, line, path))
            elif (known := self.found.image_at(path)) is None:
                split = _split(table, row) or split_of(self.tree.inside(path))
                self.found.add_image(path, split, label, where, line=line)
            elif known.label == label:
                self.counts['repeated'] += 1
            else:
                self.found.problems.append(Problem(where, line, f'{path} has the label {known.label} in another row, '
                                                                f'{label} in this one'))

    def add_notes(self) -> None:
        """Add the remarks with counts.

        Raises:
            UserError: Classes occur only in rows with several labels.
        """
        if lost := sorted(set(self.several) - set(self.found.count_objects())):
            raise UserError(f'{self.tree.root}: {list_some(lost)} occur only in rows with several labels. A classifier '
                            'of vitdet predicts one class of an image; keep one label in each row')
        for key, text in (('repeated', 'rows repeat an earlier one and count once'),
                          ('empty', 'rows state no box; their images have no objects by these rows'),
                          ('unnamed', 'rows are in tables without a column of classes; the class is "object"')):
            if self.counts[key]:
                self.found.notes.append(f'{self.counts[key]} {text}')

    def _find(self, table: Table, row: list[str]) -> Path | str:
        key = (table.file, *(table.cell(row, each) for each in ('image', 'class', 'split')))
        if key not in self.paths:
            self.paths[key] = _find(self.tree, table, row)
        return self.paths[key]

    def _complete_rows(self, table: Table) -> list[tuple[int, list[str]]]:
        """Return the rows that have all columns, and add a problem for each other one."""
        keys = ('image', *table.box, *([] if table.box or table.one_hot else ['class']))
        needed = table.width if table.one_hot else max(table.columns[key] for key in keys) + 1
        self.found.problems += [
            Problem(self.tree.path(table.file), line, f'{len(row)} cells, expected {table.width}')
            for line, row in table.rows if len(row) < needed]
        return [(line, row) for line, row in table.rows if len(row) >= needed]

    def _image(self, table: Table, path: Path | str, rows: list[tuple[int, list[str]]]) -> SourceImage | None:
        """Add the image of some rows, or a problem."""
        where, (line, row) = self.tree.path(table.file), rows[0]
        count = f'; its {len(rows)} rows are left out'
        if isinstance(path, str):
            self.found.problems.append(Problem(where, line, f'{path}{count}'))
            return None
        split = _split(table, row) or split_of(self.tree.inside(path))
        if known := self.found.image_at(path):
            if split is not None and known.split != split:
                was = known.split or 'no split'
                fault = f'{path} is in {was} by another table and in {split} by this one; it stays in {was}'
                self.found.problems.append(Problem(where, line, fault))
            return known
        size = [parse_number(table.cell(row, side)) for side in ('width', 'height')]
        image = self.found.add_image(path, split, None, where, line=line,
                                     size=(size[0], size[1]) if size[0] and size[1] else None)
        if image is None:
            self.found.problems[-1] = Problem(where, line, self.found.problems[-1].text + count)
        else:
            self.table_of[path] = table.file
        return image

    def _boxes(self, numbers: list[float | None] | None, image: SourceImage, is_relative: bool
               ) -> list[list[float | None]]:
        """Return the boxes of a row, four numbers each, in pixels; none for a row without a box."""
        if numbers is None:
            self.counts['empty'] += 1
            return []
        sides = (image.width, image.height) if is_relative else (1, 1)
        scaled = [None if value is None else value * sides[i % 2] for i, value in enumerate(numbers)]
        return [scaled[i:i + 4] for i in range(0, len(scaled), 4)]

    def _object(self, each: _Box, box: list[float | None]) -> None:
        table, line, row, image, _, name = each
        if 'class' not in table.columns:
            name = 'object'
            self.counts['unnamed'] += 1
        name = self.names.get(name, name)
        if None in box or len(box) != 4:
            cells = ', '.join(repr(table.cell(row, key)) for key in table.box)
            self.found.refuse_object(image, Problem(self.tree.path(table.file), line,
                                                    f'{name or "an object"}: a box needs four numbers, found {cells}'))
            return
        if self.table_of[image.path] != table.file and image.has(name, box):  # type: ignore[arg-type]
            self.counts['repeated'] += 1
            return
        self.found.add_object(image, name, self.tree.path(table.file), line, box=box,  # type: ignore[arg-type]
                              is_crowd=table.cell(row, 'crowd').lower() in ('1', 'true'))


def _numbers(table: Table, row: list[str]) -> list[float | None] | None:
    """Return the numbers of the boxes of a row, None in the list for what is not a number; None if all are empty."""
    cells = [table.cell(row, key) for key in table.box]
    if all(re.sub(r'[^a-z\[\]\d]', '', cell.lower()) in _EMPTY for cell in cells):
        return None
    if table.box == ('boxes',):
        return [float(text) for text in _NUMBER.findall(cells[0])] or [None]
    return [parse_number(cell) for cell in cells]


def _from_size(box: list[float | None], is_center: bool) -> list[float | None]:
    """Convert a corner or the center, width and height to two corners."""
    if len(box) != 4 or None in box:
        return box
    x, y, width, height = box
    if is_center:
        x, y = x - width / 2, y - height / 2  # type: ignore[operator]
    return [x, y, x + width, y + height]  # type: ignore[operator]


FORMAT = Format('csv', 'a CSV table with columns such as filename, class, xmin, ymin, xmax, ymax, or image and label',
                recognize_csv, read_csv)
