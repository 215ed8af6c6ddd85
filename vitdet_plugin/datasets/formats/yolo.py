"""YOLO: a text file for each image with rows of numbers, in every usual layout of folders."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from pathlib import PurePosixPath

from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats.base import Format, SourceImage, SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree, fold, split_of
from vitdet_plugin.datasets.formats.yolo_description import Description, find_description, find_images, split_images
from vitdet_plugin.datasets.yolo_rows import YoloRow, parse_row
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track

_LAYOUT_FOLDERS = ('images', 'image', 'imgs', 'img', 'jpegimages', 'labels', 'label', 'annotations', 'txt')
_TRIED_FILES = 40  # label files that are looked into


def recognize_yolo(tree: FileTree) -> str | None:
    """Return the evidence for a YOLO data set, see :class:`Format`."""
    tree, chosen = whole_tree(tree)
    if not tree.images or not (chosen or tree.with_suffix('.txt')):
        return None
    description = find_description(tree, chosen)
    labels = LabelFiles(tree, description)
    files = list(labels.file_of.values())
    rows = [row for file in files[:_TRIED_FILES] if (row := _first_row(tree, file))]
    valid = sum(map(_is_row, rows))
    # without a yaml, nothing else states the format
    if not files or 2 * valid < len(rows) or not rows and ' with ' not in description.source:
        return None
    return f'{description.source}, {len(files)} label files'


def read_yolo(tree: FileTree) -> SourceSet:
    """Read the data set, see :class:`Format`.

    Raises:
        UserError: The user named the yaml, and it names no images that exist.
    """
    whole, chosen = whole_tree(tree)
    description = find_description(whole, chosen)
    if chosen is not None and tree.chosen is not None and whole.root == tree.chosen.resolve().parent.parent:
        # there are no images next to the yaml: those next to its folder may belong to something else
        entries = [entry for each in description.entries.values() for entry in each]
        if not any(find_images(whole, description, entry) for entry in entries):
            named = ([f'path: {description.base}'] if description.base else []) + entries
            raise UserError(f'{tree.chosen} names no images that exist ({", ".join(named) or "no train and no val"}); '
                            'correct it, or give the folder of the data set')
    return read_labels(whole, description)


def read_labels(tree: FileTree, description: Description) -> SourceSet:
    """Read the images and label files of a data set with a description."""
    found = SourceSet('yolo')
    splits = split_images(tree, description)
    labels = LabelFiles(tree, description)
    found.notes += description.notes
    without = empty = largest = poses = 0
    unlisted: list[PurePosixPath] = []
    count = len(description.classes) if description.classes else None
    names = description.classes or []
    folders = {image.parent for image in labels.file_of}
    for image in track(tree.images, len(tree.images), 'images'):
        file = labels.file_of.get(image)
        if file is None and image not in splits and image.parent not in folders:
            continue
        if splits and image not in splits:  # often copies of images that are in a split
            unlisted.append(image)
            continue
        added = found.add_image(tree.path(image), splits.get(image, split_of(image)))
        if added is None:
            continue
        if file is None:
            without += 1
            continue
        last, with_keypoints = _read_rows(found, tree, file, added, names, count, description)
        empty += last < 0
        largest, poses = max(largest, last), poses + with_keypoints
    if poses:
        found.notes.append(f'{poses} boxes are followed by keypoints, which are ignored; the boxes are read')
    if unlisted:
        found.notes.append(f'{len(unlisted)} images with labels are in no split of '
                           f'{description.source.split(" with ")[0]} and are left out: '
                           f'{list_some(list(map(str, unlisted)))}')
    if description.classes is None:
        found.notes.append('no list of class names (data.yaml, classes.txt): classes are numbered; "vitdet init '
                           '--classes" names them')
    found.classes = list(dict.fromkeys(names or [f'class {i}' for i in range(largest + 1)]))
    if len(found.classes) < len(names):
        found.notes.append('a class name occurs twice; its labels are one class')
    if without + empty:
        found.notes.append(f'{without + empty} images have no objects, {without} of them no label file')
    found.problems += labels.problems(tree)
    found.notes += tree.note_encodings()
    found.note_unused(tree, 'have no label file and are in none of the folders of the set; they are left out', unlisted)
    return found


def whole_tree(tree: FileTree) -> tuple[FileTree, PurePosixPath | None]:
    """Return the files of the whole data set if the user named its yaml, and the path of the yaml."""
    if tree.chosen is None or tree.chosen.suffix.lower() not in ('.yaml', '.yml'):
        return tree, None
    chosen = tree.chosen.resolve()
    base = find_description(tree, PurePosixPath(chosen)).base.strip()
    folder = chosen.parent / base
    whole = FileTree(folder if base and folder.is_dir() else tree.root)
    root = whole.root.resolve()
    return whole, PurePosixPath(chosen.relative_to(root) if chosen.is_relative_to(root) else chosen)


class LabelFiles:
    """The label file of each image.

    Attributes:
        file_of: Label file by image.
        shared: Images whose label file belongs to another image too, with that image.
        unused: Label files of no image.
    """

    def __init__(self, tree: FileTree, description: Description) -> None:
        files = [file for file in tree.with_suffix('.txt') if file not in description.files]
        by_key: dict[tuple[str, ...], list[PurePosixPath]] = defaultdict(list)
        by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
        images_of: dict[str, list[PurePosixPath]] = defaultdict(list)
        for file in files:
            by_key[_key(file)].append(file)
            by_stem[fold(file.stem)].append(file)
        for image in tree.images:
            images_of[fold(image.stem)].append(image)
        self.file_of: dict[PurePosixPath, PurePosixPath] = {}
        self.shared: list[tuple[PurePosixPath, PurePosixPath, PurePosixPath]] = []
        used: dict[PurePosixPath, PurePosixPath] = {}
        for image in tree.images:
            found = by_key.get(_key(image), [])
            stem = fold(image.stem)
            if not found and len(images_of[stem]) == 1 and len(by_stem[stem]) == 1 and not tree.is_other_form(image):
                found = by_stem[stem]
            if not found:
                continue
            file = found[0] if len(found) == 1 else _preferred(image, found)
            if file in used:
                self.shared.append((file, used[file], image))
                continue
            used[file] = image
            self.file_of[image] = file
        self.unused = [file for file in files if file not in used and (
            'labels' in map(str.lower, file.parts[:-1]) or _is_row(_first_row(tree, file)))]

    def problems(self, tree: FileTree) -> list[Problem]:
        """Return a problem for each label file that has rows and no image of its own."""
        shared = [Problem(tree.path(file), None, f'belongs to {first} and to {second}; rename one of the images')
                  for file, first, second in self.shared]
        return shared + [
            Problem(tree.path(file), None, f'no image of this name below {tree.image_root}{_advice(file)}'
                    if _key(file) not in map(_key, self.file_of) else
                    'a second label file of an image; the other one is read')
            for file in self.unused if _first_row(tree, file)]


def _advice(file: PurePosixPath) -> str:
    return f'; rename it to {file.stem}' if file.stem.lower().endswith('.txt') else ''


def _key(file: PurePosixPath) -> tuple[str, ...]:
    """Return what the paths of an image and its label file have in common."""
    folders = [part for part in map(fold, file.parts[:-1]) if part not in _LAYOUT_FOLDERS]
    return (*folders, unicodedata.normalize('NFC', file.stem))


def _preferred(image: PurePosixPath, files: list[PurePosixPath]) -> PurePosixPath:
    """Return the file where YOLO looks first: the last ``images`` replaced by ``labels``; then next to the image."""
    folders = list(image.parts[:-1])
    for i in reversed(range(len(folders))):
        if folders[i].lower() == 'images':
            folders[i] = 'labels'
            break
    expected = PurePosixPath(*folders)
    return next((file for parent in (expected, image.parent) for file in files if file.parent == parent), files[0])


def _first_row(tree: FileTree, file: PurePosixPath) -> str:
    return next((line for line in (tree.read_text(file) or '').splitlines() if line.strip()), '')


def _is_row(line: str) -> bool:
    """Whether a line is that of YOLO, perhaps with a confidence or keypoints."""
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        return False
    return len(values) >= 5 and values[0] >= 0 and values[0].is_integer() and \
        all(-1 <= value <= 2 for value in values[1:5])


def _read_rows(found: SourceSet, tree: FileTree, file: PurePosixPath, image: SourceImage, names: list[str],
               count: int | None, description: Description) -> tuple[int, int]:
    """Add the objects of a label file; returns the largest label, -1 if it has no rows, and the rows with keypoints."""
    where, largest, poses = tree.path(file), -1, 0
    text = tree.read_text(file)
    if text is None:
        found.refuse_object(image, Problem(where, None, 'not a text file'))
        return largest, poses
    seen: dict[YoloRow, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        largest = max(largest, 0)
        try:
            row = parse_row(line, count, description.keypoint_values)
            if (first := seen.setdefault(row, number)) != number:
                raise ValueError(f'the same as line {first}')
        except ValueError as error:
            found.refuse_object(image, Problem(where, number, str(error)))
            continue
        poses += bool(row.keypoints)
        sides = image.width, image.height
        box = [value * sides[i % 2] for i, value in enumerate(row.box)]
        mask = None if row.polygon is None else [[value * sides[i % 2] for i, value in enumerate(row.polygon)]]
        name = names[row.label] if names else f'class {row.label}'
        if found.add_object(image, name, where, number, box=None if mask else box, mask=mask):
            largest = max(largest, row.label)
    return largest, poses


FORMAT = Format('yolo', 'a text file for each image with rows "class x y width height" or polygons, usually with '
                'data.yaml', recognize_yolo, read_yolo)

