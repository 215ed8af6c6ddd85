"""Conversion of the text files of YOLO to COCO."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vitdet_plugin.compat.coco_masks import mask_area
from vitdet_plugin.datasets.conversion import Content, Problem, check_box, read_image_size
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.formats.yolo import FORMAT, read_yolo, recognize_yolo, whole_tree
from vitdet_plugin.datasets.formats.yolo_description import find_description
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, ImageIndex, walk_files
from vitdet_plugin.datasets.yolo_rows import YoloRow, parse_row
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


def convert_yolo_set(path: Path, clip: bool = False) -> tuple[Content, dict[str, list[dict]]]:
    """Convert a whole data set in any layout, with the class names and splits that its yaml or lists state.

    Args:
        path: Folder of the data set, or its yaml.
        clip: Cut objects at the border of the image.

    Returns:
        All images, with paths relative to the folder that the last note names; and the images of each split,
        ``other`` for those in none, ``all`` if there are no splits.

    Raises:
        UserError: There are no images with label files, or no list of class names; or objects reach beyond the image by
            more than a pixel, without ``clip``.
    """
    tree = FileTree(path)
    if not recognize_yolo(tree):
        raise UserError(f'{path} is not a YOLO data set: it needs {FORMAT.looks_for}; or give --classes with the '
                        'folders --images and --labels')
    if find_description(*whole_tree(tree)).classes is None:
        raise UserError(f'{path} has no list of class names (data.yaml, classes.txt); give --classes')
    found, root = read_yolo(tree), whole_tree(tree)[0].root
    if found.clipped and not clip:
        raise UserError(f'{found.clipped} boxes or polygons of {path} reach beyond their image by more than a pixel; '
                        '--clip cuts them')
    content = Content(found.classes, problems=found.problems, notes=found.notes)
    splits: dict[str, list[dict]] = {}
    has_splits = any(image.split for image in found.images)
    for source in found.images:
        image = content.add_image(source.path.relative_to(root).as_posix(), (source.width, source.height))
        splits.setdefault(source.split or ('other' if has_splits else 'all'), []).append(image)
        for each in source.objects:
            x1, y1, x2, y2 = each.box
            more = dict(segmentation=[[round(value, 4) for value in polygon] for polygon in each.mask]) \
                if isinstance(each.mask, list) else {}
            content.add_object(image, found.classes.index(each.name), (x1, y1, x2 - x1, y2 - y1), **more)
            if more:
                content.annotations[-1]['area'] = round(mask_area(each.mask) or 0, 4)
    content.notes.append(f'file names are relative to {root}')
    return content, splits


def _label_files(folder: Path) -> dict[PurePosixPath, PurePosixPath]:
    """Label files by path without suffix; ``.TXT`` counts too, hidden files do not."""
    return {path.with_suffix(''): path for path, is_hidden in walk_files(folder)
            if path.suffix.lower() == '.txt' and not is_hidden}


def _rows(content: Content, file: Path, image: dict, clip: bool) -> None:
    """Add the objects of a text file. A row that occurs twice counts once, the other is a problem."""
    seen: dict[YoloRow, int] = {}
    try:
        lines = decode_text(file.read_bytes()).splitlines()
    except UnicodeDecodeError:
        content.problems.append(Problem(file, None, 'not a text file in UTF-8'))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = parse_row(line, len(content.classes))
            if (first := seen.setdefault(row, number)) != number:
                raise ValueError(f'the same as line {first}')
            _add(content, image, row, clip)
        except ValueError as error:
            content.problems.append(Problem(file, number, str(error)))


def _add(content: Content, image: dict, row: YoloRow, clip: bool) -> None:
    """Add one object, or raise a ValueError with the reason why it is invalid."""
    width, height = image['width'], image['height']
    more, xs, ys = {}, [], []
    box = tuple(value * (width, height)[i % 2] for i, value in enumerate(row.box))
    if row.polygon is not None:
        xs, ys = [x * width for x in row.polygon[0::2]], [y * height for y in row.polygon[1::2]]
        if clip:
            xs, ys = [min(max(x, 0), width) for x in xs], [min(max(y, 0), height) for y in ys]
        more = dict(segmentation=[[round(value, 4) for point in zip(xs, ys) for value in point]])
    # files hold rounded numbers: an error in the sixth decimal is up to half a pixel in a million
    (x1, y1, x2, y2), wrong = check_box(box, (width, height), clip, slack=1e-5 * max(width, height) + 1e-3)
    if wrong:
        raise ValueError(wrong)
    content.add_object(image, row.label, (x1, y1, x2 - x1, y2 - y1), **more)
    if more:
        content.annotations[-1]['area'] = round(_polygon_area(xs, ys), 4)


def _polygon_area(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Area by the shoelace formula."""
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2
