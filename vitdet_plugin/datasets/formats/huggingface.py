"""Image folders of Hugging Face: ``metadata.jsonl`` with the objects or the class of an image in each line.

The keys are those of the documentation of ``datasets`` (``file_name``, ``objects`` with ``bbox`` and ``categories``)
and of data sets on the Hub, which use others of the same meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import yaml

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Doubtful, Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import head, json_lines, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number
from vitdet_plugin.datasets.formats.tree import FileTree, split_of
from vitdet_plugin.utils.track import track

_SUFFIXES = ('.jsonl', '.ndjson')
_IMAGE = ('file_name', 'image_file_name', 'filename', 'image_path', 'image', 'path')
_OBJECTS = ('objects', 'annotations')
_BOX = ('bbox', 'bboxes', 'box', 'boxes')
_CLASS = ('category', 'categories', 'class_name', 'category_name', 'label', 'labels', 'class', 'name', 'category_id',
          'class_id')
_MASK = ('segmentation', 'polygon')
_LABEL = ('label', 'labels', 'class', 'category', 'class_name')
_TRIED_LINES = 20


class _Entry(NamedTuple):
    """The image of a line, empty without one; its objects as dicts, None without that key; and its label."""

    line: int
    image: str
    objects: list[Any] | None
    label: Any


def _recognize(tree: FileTree) -> str | None:
    files = _files(tree)
    if not files:
        return None
    entries = [*islice((entry for entry in _entries(tree, files[0]) if entry.image), _TRIED_LINES)]
    is_detection = any(entry.objects is not None for entry in entries)
    evidence = weigh(f'{files[0]} with images and their {"objects" if is_detection else "labels"}',
                     [find_image(tree, entry.image, files[0]) for entry in entries])
    return evidence if is_detection else Doubtful(evidence)


def _files(tree: FileTree) -> list[PurePosixPath]:
    """Return the files of which one of the first entries has an image with objects or a label."""
    return [file for file in tree.with_suffix(*_SUFFIXES) if '"source-ref"' not in head(tree.path(file), 2**12) and any(
        entry.image and (entry.objects is not None or _names(entry.label))
        for entry in islice(_entries(tree, file), _TRIED_LINES))]


def _entries(tree: FileTree, file: PurePosixPath) -> Iterator[_Entry]:
    for number, content in json_lines(tree, file):
        image = _value(content, _IMAGE)
        if not isinstance(image, str):
            yield _Entry(number, '', None, None)
            continue
        listed = _value(content, _OBJECTS)
        if listed is None and _value(content, _BOX) is not None and not isinstance(_value(content, _BOX), str):
            listed = content  # the lists are columns of the table
        yield _Entry(number, image, _rows(listed), _value(content, _LABEL))


def _rows(listed: Any) -> list[Any] | None:
    """Return objects as dicts, also from a dict with a list for each key."""
    if isinstance(listed, list):
        return listed
    if not isinstance(listed, dict):
        return None
    key = next((each for each in _BOX if isinstance(listed.get(each), list)), None)
    if key is None:
        return []
    boxes = listed[key]
    if len(boxes) == 4 and not any(isinstance(each, (list, dict)) for each in boxes):  # one object
        return [listed]
    columns = {name: values for name, values in listed.items()
               if isinstance(values, list) and len(values) == len(boxes)}
    return [{name: values[i] for name, values in columns.items()} for i in range(len(boxes))]


def _value(content: Any, keys: Sequence[str]) -> Any:
    return next((content[key] for key in keys if content.get(key) is not None), None) if isinstance(
        content, dict) else None


def _names(label: Any) -> list[str]:
    """Return the names of the classes of an image; numbers as text."""
    listed = label if isinstance(label, list) else [label]
    return [str(each).strip() for each in listed
            if isinstance(each, str) and each.strip() or isinstance(each, int) and not isinstance(each, bool)]


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'huggingface')
    labels: list[tuple[AnnotatedImage, int | None, list[str]]] = []
    found: list[tuple[AnnotatedImage, _Entry]] = []
    for file in _files(tree):
        entries = [*_entries(tree, file)]
        for entry in track(entries, len(entries), f'images of {file}'):
            if not entry.image:
                collector.problem(tree.path(file), entry.line, f'not a JSON object with an image '
                                                               f'({", ".join(_IMAGE[:3])})')
                continue
            to = collector.add_image([entry.image], file, entry.line, split=split_of(file),
                                     objects=len(entry.objects or ()))
            if to is not None and entry.objects is not None:
                found.append((to, entry))
            elif to is not None:
                labels.append((to, entry.line, _names(entry.label)))
    are_corners = False
    if boxes := _boxes(found):
        are_corners, note = shapes.choose_corners(boxes, are_usual=False)
        collector.found.notes.append(note)
    for to, entry in found:
        for index, each in enumerate(entry.objects or (), 1):
            try:
                name, parts = _object(each, are_corners)
            except ValueError as error:
                collector.problem(to.file, entry.line, f'{to.image.path.name}, object {index}: {error}')
                continue
            collector.add_object(to, name, entry.line, parts)
    collector.use_labels(labels, 'labels')
    return _with_names(collector, _stated_names(tree))


def _object(content: Any, are_corners: bool) -> tuple[str, list[Shape]]:
    """Return the class and the parts of an object.

    Raises:
        ValueError: It has no class, or no box of four numbers.
    """
    names = _names(_value(content, _CLASS))
    if len(names) != 1:
        raise ValueError(f'{len(names)} classes' if names else f'no class ({", ".join(_CLASS[:3])})')
    polygons = _value(content, _MASK)
    if isinstance(polygons, list) and polygons:
        polygons = polygons if isinstance(polygons[0], list) else [polygons]
        flat = [[to_number(value) for value in each] for each in polygons if isinstance(each, list)]
        return names[0], [shapes.polygon([*zip(each[::2], each[1::2])]) for each in flat]
    x, y, x2, y2 = _box(content)
    return names[0], [shapes.rectangle(x, y, *((x2, y2) if are_corners else (x + x2, y + y2)))]


def _box(content: Any) -> list[float]:
    box = _value(content, _BOX)
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        raise ValueError(f'a box needs four numbers, found {str(box)[:40]}')
    return [to_number(value) for value in box]


def _boxes(found: Sequence[tuple[AnnotatedImage, _Entry]]) -> list[tuple[list[float], tuple[float, float]]]:
    """Return all boxes, with the sizes of their images."""
    boxes = []
    for to, entry in found:
        for each in entry.objects or ():
            with suppress(ValueError):
                boxes.append((_box(each), (to.image.width, to.image.height)))
    return boxes


def _stated_names(tree: FileTree) -> dict[str, str]:
    """Return the names of numbered classes, by number, in the header of the data set's card (``README.md``)."""
    stated: Counter[tuple[tuple[str, str], ...]] = Counter()
    for file in tree.with_suffix('.md'):
        match = re.match(r'---\s*\n(.*?)\n---', tree.read_text(file) or '', re.DOTALL)
        try:
            stated.update(_labels_in(yaml.safe_load(match[1])) if match else ())
        except yaml.YAMLError:
            continue
    return dict(next(iter(stated))) if len(stated) == 1 else {}


def _labels_in(content: Any) -> Iterator[tuple[tuple[str, str], ...]]:
    """Yield the numbers and names of every ``class_label`` of a card."""
    if isinstance(content, dict):
        label = content.get('class_label')
        names = label.get('names') if isinstance(label, dict) else None
        if isinstance(names, (dict, list)) and names:
            pairs = names.items() if isinstance(names, dict) else enumerate(names)
            yield tuple((str(key), str(name)) for key, name in pairs)
    for each in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _labels_in(each)


def _with_names(collector: Collector, stated: dict[str, str]) -> SourceSet:
    """Name numbered classes as the card does, or ``class 0``, ``class 1``, …"""
    images = collector.found.images
    used = {each.name for image in images for each in image.objects} | {
        image.label for image in images if image.label is not None}
    if not used or not all(name.isdigit() for name in used):
        return collector.finish()
    for image in images:
        if image.label is not None:
            image.label = stated.get(image.label, f'class {image.label}')
        for each in image.objects:
            each.name = stated.get(each.name, f'class {each.name}')
    if stated and not all(name in stated for name in used):
        collector.found.notes.append('README.md of the data set does not name all classes')
    elif not stated:
        collector.found.notes.append('no names of the classes in README.md: classes are numbered; "vitdet init '
                                     '--classes" names them')
    order = [stated.get(str(i), f'class {i}') for i in range(max(map(int, used)) + 1)]
    return collector.finish(list(dict.fromkeys([*stated.values()] if stated else order)))


FORMAT = Format('huggingface', 'metadata.jsonl with "file_name" and "objects" or a label in each line, as image '
                'folders of Hugging Face have it', _recognize, _read)
