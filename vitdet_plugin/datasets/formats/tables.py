"""Tables of annotations in CSV files: separators, headers in every usual form, and tables without a header."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vitdet_plugin.datasets.formats.tree import SPLIT_OF, FileTree
from vitdet_plugin.datasets.image_files import is_image_file

SEPARATORS = (',', ';', '\t', '|')
_MOST_CELL = 1 << 26  # characters; some files hold whole masks in a cell
# names of columns in lower case without other characters, the most specific first
_NAMES = {meaning: names.split() for meaning, names in {
    'image': 'filename imagefilename imagefile imgfile imagepath imgpath filepath path imagename imgname imageid imgid '
             'image img images file files filenames frame photo id',
    'class': 'classname labelname categoryname objectclass class label category labels classes cls name object species '
             'breed tag annotationtag type target classid labelid categoryid',
    'x1': 'xmin x1 xtl minx left bboxxmin boxxmin bboxx1 roix1 xtopleft topleftx xupperleft upperleftx '
          'upperleftcornerx lefttopx leftx xleft bboxleft boxleft bbleft startx xstart bboxx boxx x l',
    'y1': 'ymin y1 ytl miny top bboxymin boxymin bboxy1 roiy1 ytopleft toplefty yupperleft upperlefty '
          'upperleftcornery lefttopy topy ytop bboxtop boxtop bbtop starty ystart bboxy boxy y t',
    'x2': 'xmax x2 xbr maxx right bboxxmax boxxmax bboxx2 roix2 xbottomright bottomrightx xlowerright lowerrightx '
          'lowerrightcornerx rightbottomx rightx xright bboxright boxright endx xend r',
    'y2': 'ymax y2 ybr maxy bottom bboxymax boxymax bboxy2 roiy2 ybottomright bottomrighty ylowerright lowerrighty '
          'lowerrightcornery rightbottomy bottomy ybottom bboxbottom boxbottom endy yend b',
    'center x': 'xcenter centerx cx xc', 'center y': 'ycenter centery cy yc',
    'box width': 'bboxwidth boxwidth bbwidth bboxw boxw w', 'box height': 'bboxheight boxheight bbheight bboxh boxh h',
    'width': 'imagewidth imgwidth imgw width', 'height': 'imageheight imgheight imgh height',
    'boxes': 'bbox boundingbox box bboxes boxes boxesstring coordinates',
    'split': 'split subset set dataset partition phase', 'crowd': 'isgroupof iscrowd'}.items()}
_CORNERS_BY_NAME = ('boxes', 'boxesstring')  # of torchvision and of Global Wheat
_MISSING = ('', 'nan', 'NaN', 'None', 'NULL', 'null', '<NA>')  # as pandas and databases write an empty cell
_FOREIGN = ('regionshapeattributes', 'regioncount', 'encodedpixels')  # other formats with similar columns
_CORNERS, _SIZED = ('x1', 'y1', 'x2', 'y2'), ('x1', 'y1', 'box width', 'box height')
_CENTERED = ('center x', 'center y', 'box width', 'box height')
# of a column such as cell_type, if no other states the class
_PART_OF_CLASS = re.compile(r'(?!.*(file|image|img|path|split))(.*(class|label|category|type|name|species)|'
                            r'(class|label|category|species).*)')


class Table(NamedTuple):
    """A table of annotations.

    Attributes:
        file: Its file.
        columns: Index of the column of each meaning, see the code.
        box: Columns of the box; empty for a table of labels of images.
        rows: Line number and cells of each row, without the header and blank rows.
        width: Number of columns.
        separator: Character between cells.
        one_hot: Column of each class, with 1 in the rows of its images, as Roboflow writes them.
        is_corners: Whether the one column of boxes has a name that usually means corners, such as torchvision's
            ``boxes``.
        other_numbers: Names of the columns of numbers that have no meaning here.
    """

    file: PurePosixPath
    columns: dict[str, int]
    box: tuple[str, ...]
    rows: list[tuple[int, list[str]]]
    width: int
    separator: str
    one_hot: dict[str, int] = {}
    is_corners: bool = False
    other_numbers: tuple[str, ...] = ()

    def cell(self, row: Sequence[str], meaning: str) -> str:
        """Return a cell of a row, empty if there is no such column."""
        index = self.columns.get(meaning)
        return row[index].strip() if index is not None and index < len(row) else ''


    def labels(self, row: Sequence[str]) -> list[str]:
        """Return the labels of a row: of its image, or of its boxes in their order; of a list, its members."""
        if self.one_hot:
            return [name for name, index in self.one_hot.items() if index < len(row) and row[index].strip() == '1']
        label = self.cell(row, 'class')
        members = _members(label[1:-1]) if re.fullmatch(r'\[.*\]|\(.*\)', label, re.DOTALL) else [label]
        return [each for each in members if each not in _MISSING]


def read_table(tree: FileTree, file: PurePosixPath) -> Table | None:
    """Read a CSV file, or return None if it has no columns of images with boxes or labels."""
    text = tree.read_text(file)
    for separator in SEPARATORS if text else ():
        rows = _cells(text or '', separator)
        if not rows or len(rows[0][1]) < 2:
            continue
        columns = _columns_of_header([_plain(cell) for cell in rows[0][1]])
        body = rows[1:]
        if one_hot := _one_hot(rows):
            return Table(file, {'image': 0}, (), body, len(rows[0][1]), separator, one_hot)
        if columns is not None and 'class' not in columns and (index := _class_column(rows, columns)) is not None:
            columns['class'] = index
        others: tuple[str, ...] = ()
        if columns is None:
            columns, body = _columns_of_content(rows), rows
        else:
            others = _other_numbers(rows, columns)
        if columns is not None:
            box = next((each for each in (_CORNERS, _SIZED, _CENTERED, ('boxes',)) if columns.keys() >= set(each)), ())
            is_corners = box == ('boxes',) and _plain(rows[0][1][columns['boxes']]) in _CORNERS_BY_NAME
            return Table(file, columns, box, body, len(rows[0][1]), separator, {}, is_corners, others)
    return None


def _members(text: str) -> list[str]:
    """Return the members of a list as Python, JSON or NumPy write it, without its brackets."""
    if quoted := re.findall(r"'([^']*)'|\"([^\"]*)\"", text):
        return [(single or double).strip() for single, double in quoted]
    return [each.strip() for each in re.split(r',|(?<=\d)\s+(?=\d)', text)]


def read_pairs(tree: FileTree, file: PurePosixPath) -> dict[str, str]:
    """Return the content of a table of two columns, such as names by identifier."""
    return {row[0].strip(): row[1].strip() for _, row in _cells(tree.read_text(file) or '', ',') if len(row) == 2}


def _cells(text: str, separator: str) -> list[tuple[int, list[str]]]:
    before = csv.field_size_limit(_MOST_CELL)
    try:
        reader = csv.reader(io.StringIO(text, newline=''), delimiter=separator, skipinitialspace=True)
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error:
        return []
    finally:
        csv.field_size_limit(before)


def _one_hot(rows: list[tuple[int, list[str]]]) -> dict[str, int]:
    """Return the column of each class if a table has the image and then 0 or 1 for each class; otherwise nothing."""
    names = [name.strip() for name in rows[0][1]]
    cells = {cell.strip() for _, row in rows[1:] for cell in row[1:]}
    is_one_hot = len(names) > 2 and _plain(names[0]) in _NAMES['image'] and cells and cells <= {'0', '1'}
    return {name: index for index, name in enumerate(names) if index} if is_one_hot and all(names) else {}


def _plain(name: str) -> str:
    return re.sub(r'[^a-z0-9]', '', name.lower())


def _columns_of_header(names: list[str]) -> dict[str, int] | None:
    if set(names) & set(_FOREIGN):
        return None
    columns: dict[str, int] = {}
    for meaning, known in _NAMES.items():
        index = next((names.index(name) for name in known if name in names), None)
        if index is not None and index not in columns.values():
            columns[meaning] = index
    if {'x0', 'y0', 'x1', 'y1'} <= set(names):
        columns |= {'x1': names.index('x0'), 'y1': names.index('y0'), 'x2': names.index('x1'), 'y2': names.index('y1')}
    has_corners = columns.keys() >= set(_CORNERS)
    if not has_corners and 'boxes' not in columns and {'width', 'height'} <= columns.keys() and (
            {'x1', 'y1'} <= columns.keys() or {'center x', 'center y'} <= columns.keys()):
        for side in ('width', 'height'):  # sizes of the box, not of the image
            columns.setdefault(f'box {side}', columns[side])
            if columns[f'box {side}'] == columns[side]:
                del columns[side]
    is_boxes = any(columns.keys() >= set(each) for each in (_CORNERS, _SIZED, _CENTERED, ('boxes',)))
    return columns if 'image' in columns and (is_boxes or 'class' in columns) else None


def _class_column(rows: list[tuple[int, list[str]]], columns: dict[str, int]) -> int | None:
    """Return the only column of texts whose name contains a word such as type; None if there is none or several."""
    found = [index for index, name in enumerate(rows[0][1])
             if index not in columns.values() and _PART_OF_CLASS.fullmatch(_plain(name)) and all(
                 index < len(row) and row[index].strip() and parse_number(row[index]) is None for _, row in rows[1:])]
    return found[0] if len(found) == 1 and len(rows) > 1 else None


def _other_numbers(rows: list[tuple[int, list[str]]], columns: dict[str, int]) -> tuple[str, ...]:
    """Return the names of the columns that are in no box and consist of numbers."""
    understood = {columns.get(meaning) for meaning in ('image', 'class', 'width', 'height', 'split', 'crowd')}
    return tuple(name.strip() for index, name in enumerate(rows[0][1])
                 if index not in understood and len(rows) > 1 and all(
                     index < len(row) and parse_number(row[index]) is not None for _, row in rows[1:]))


def _columns_of_content(rows: list[tuple[int, list[str]]]) -> dict[str, int] | None:
    """Recognize a table without a header by its first rows."""
    layouts: tuple[tuple[str, ...], ...] = (
        ('image', *_CORNERS, 'class'), ('image', 'width', 'height', 'class', *_CORNERS),
        ('image', *_CORNERS, 'class', 'width', 'height'),  # of SKU-110K
        ('class', 'x1', 'y1', 'box width', 'box height', 'image', 'width', 'height'), ('image', 'class'),
        # of Google's Vertex AI: two of the four corners may be empty
        ('split', 'image', 'class', 'x1', 'y1', 'other x', 'other y', 'x2', 'y2', 'last x', 'last y'),
        ('image', 'class', 'x1', 'y1', 'other x', 'other y', 'x2', 'y2', 'last x', 'last y'),
        ('split', 'image', 'class'))
    first = [row for _, row in rows[:20]]
    for layout in layouts:
        columns = {meaning: index for index, meaning in enumerate(layout)}
        if all(len(row) == len(layout) and is_image_file(Path(row[columns['image']].strip())) and
               all(_is_of_meaning(row[index], meaning) for meaning, index in columns.items()) for row in first):
            return columns
    return None


def _is_of_meaning(cell: str, meaning: str) -> bool:
    if meaning == 'split':
        return cell.strip().lower() in (*SPLIT_OF, 'unassigned')
    return meaning in ('image', 'class') or _is_number_or_empty(cell)


def _is_number_or_empty(cell: str) -> bool:
    return not cell.strip() or parse_number(cell) is not None


def parse_number(cell: str) -> float | None:
    """Return a cell as a finite number, with a decimal point or comma, or None."""
    try:
        value = float(cell.strip().replace(',', '.'))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
