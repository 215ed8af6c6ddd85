"""Conversion of the text files of YOLO to COCO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vitdet_plugin.datasets.conversion import Content, Problem, check_box, read_image_size
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, ImageIndex, walk_files
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import decode_text


def convert_yolo(images: Path, labels: Path, classes: Sequence[str], *, clip: bool = False) -> Content:
    """Convert the images below one folder and the text files of the same names below another.

    A row is ``class cx cy w h`` relative to the size of the image, or ``class x1 y1 x2 y2 x3 y3 ...``, a polygon. An
    image without a text file, or with an empty one, has no objects.

    Args:
        images: Folder of the images.
        labels: Folder of the text files.
        classes: Names in the order of the labels.
        clip: See :func:`check_box`.

    Raises:
        UserError: There are no images, no folder of labels, or no label file for any of the images.
    """
    if not labels.is_dir():
        raise UserError(f'{labels} is not a folder; it should hold a .txt for each image')
    index = ImageIndex(images)
    if not index.images:
        raise UserError(f'{images} holds no images ({", ".join(IMAGE_SUFFIXES[:6])} …)')
    files = _label_files(labels)
    content = Content(list(classes))
    used: dict[PurePosixPath, PurePosixPath] = {}
    missing = empty = 0
    for name in index.images:
        stem = name.with_suffix('')
        size = read_image_size(images / name)
        if isinstance(size, str):
            content.problems.append(Problem(images / name, None, size))
            used.setdefault(stem, name)
            continue
        image = content.add_image(name.as_posix(), size)
        if stem in used and stem in files:
            both = f'belongs to {used[stem]} and to {name}; rename one of the images'
            content.problems.append(Problem(labels / files[stem], None, both))
            continue
        used[stem] = name
        before = len(content.annotations)
        if stem in files:
            _rows(content, labels / files[stem], image, clip)
            empty += len(content.annotations) == before
        else:
            missing += 1
    if missing == len(content.images) > 0:
        raise UserError(f'none of the {missing} images in {images} has a label file of its name in {labels}; give the '
                        'folder of the labels (--labels), with the subfolders of the images')
    for stem, file in files.items():
        if stem not in used and file.name.lower() != 'classes.txt':
            advice = f'; rename it to {stem}' if stem.suffix.lower() == '.txt' else ''
            content.problems.append(Problem(labels / file, None, f'no image of this name in {images}{advice}'))
    if missing or empty:
        content.notes.append(f'{missing + empty} images have no objects')
    if missing:
        content.notes.append(f'{missing} of them have no label file')
    content.notes += index.notes()
    return content


def _label_files(folder: Path) -> dict[PurePosixPath, PurePosixPath]:
    """Label files by path without suffix; ``.TXT`` counts too, hidden files do not."""
    return {path.with_suffix(''): path for path, is_hidden in walk_files(folder)
            if path.suffix.lower() == '.txt' and not is_hidden}


def _rows(content: Content, file: Path, image: dict, clip: bool) -> None:
    """Add the objects of a text file. A row that occurs twice counts once, the other is a problem."""
    seen: dict[tuple[float, ...], int] = {}
    try:
        lines = decode_text(file.read_bytes()).splitlines()
    except UnicodeDecodeError:
        content.problems.append(Problem(file, None, 'not a text file in UTF-8'))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            advice = '; separate numbers by blanks and write decimals with a point' if ',' in line else ''
            content.problems.append(Problem(file, number, f'not only numbers: {line.strip()!r}{advice}'))
            continue
        wrong = _row(content, image, values, clip)
        if wrong is None and (first := seen.get(tuple(values))):
            content.annotations.pop()
            wrong = f'the same as line {first}'
        if wrong:
            content.problems.append(Problem(file, number, wrong))
        seen.setdefault(tuple(values), number)


def _row(content: Content, image: dict, values: list[float], clip: bool) -> str | None:
    """Add one object, or return the reason why it is invalid."""
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        return (f'{len(values)} numbers; a box has 5 (class, center x, center y, width, height), a polygon 7, 9, 11 '
                '... (class and corners)' + ('; remove the sixth, a confidence' if len(values) == 6 else ''))
    if not all(math.isfinite(value) for value in values):
        return 'a number is not finite'
    label, *coordinates = values
    if label != int(label) or not 0 <= label < len(content.classes):
        return f'class {label:g}; there are {len(content.classes)}, counted from 0'
    if max(coordinates) > 2:
        return f'{max(coordinates):g} is not relative to the image size; coordinates go from 0 to 1'
    width, height = image['width'], image['height']
    more = {}
    if len(values) == 5:
        x, y, w, h = coordinates
        if w <= 0 or h <= 0:
            return f'width {w:g} and height {h:g} must be above 0'
        box = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    else:
        xs, ys = [x * width for x in coordinates[0::2]], [y * height for y in coordinates[1::2]]
        if clip:
            xs, ys = [min(max(x, 0), width) for x in xs], [min(max(y, 0), height) for y in ys]
        box = min(xs), min(ys), max(xs), max(ys)
        more = dict(segmentation=[[round(value, 4) for point in zip(xs, ys) for value in point]])
    # files hold rounded numbers: an error in the sixth decimal is up to half a pixel in a million
    (x1, y1, x2, y2), wrong = check_box(box, (width, height), clip, slack=1e-5 * max(width, height) + 1e-3)
    if wrong:
        return wrong
    content.add_object(image, int(label), (x1, y1, x2 - x1, y2 - y1), **more)
    if more:
        content.annotations[-1]['area'] = round(_polygon_area(xs, ys), 4)
    return None


def _polygon_area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Area by the shoelace formula."""
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
