"""Datumaro: a JSON file for each subset with categories and items, as Datumaro and CVAT write it."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from vitdet_plugin.coco.content import parse_flag
from vitdet_plugin.coco.masks import mask_area
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, count_kinds, find_image
from vitdet_plugin.datasets.formats.files import find_json, load_json, read_all_json, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number, to_points
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.utils.mask_rle import decode_mask, encode_annotation
from vitdet_plugin.utils.track import track

_MARKS = ('is_crowd', 'difficult')  # attributes: crowd regions of COCO and difficult objects of VOC
_NOT_REGIONS = ('caption', 'hash_key', 'feature_vector', 'tabular')


def _is_datumaro(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get('categories'), dict) and isinstance(
        content.get('items'), list) and all(isinstance(each, dict) and 'id' in each for each in content['items'][:20])


def _classes_of(content: dict) -> list[str]:
    """Return the names of the labels by their number."""
    labels = content['categories'].get('label')
    labels = labels.get('labels') if isinstance(labels, dict) else None
    return [str(each.get('name')) if isinstance(each, dict) else str(each)
            for each in (labels if isinstance(labels, list) else ())]


def _names_of(item: dict) -> list[str]:
    """Return names of the image of an item: its path, and its id, which has no suffix."""
    found = [each.get('path') for key in ('image', 'media') if isinstance(each := item.get(key), dict)]
    names = [each for each in found if isinstance(each, str) and each]
    return [*names, *([f'{item["id"]}'] if item.get('id') not in (None, '') else [])]


def _recognize(tree: FileTree) -> str | None:
    for mark in ('"items"', '"labels"'):
        if found := find_json(tree, _is_datumaro, mark):
            content = load_json(tree, found[0])
            names = [name for item in content['items'][:20] for name in _names_of(item)]
            return weigh(f'{found[0]} with {len(content["items"])} items of Datumaro',
                         [find_image(tree, name, found[0]) for name in names])
    return None


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'datumaro')
    classes: list[str] = []
    labels: list[tuple[AnnotatedImage, int, list[str]]] = []
    ignored: Counter[str] = Counter()
    for file, content in read_all_json(tree, collector.found, _is_datumaro):
        names = _classes_of(content)
        classes += names
        items = content['items']
        for number, item in enumerate(track(items, len(items), f'items of {file.name}'), 1):
            if not isinstance(item, dict):
                collector.problem(tree.path(file), number, 'not an item of Datumaro')
                continue
            _read_item(collector, file, number, item, names, labels, ignored)
    collector.use_labels(labels, 'labels')
    if ignored:
        collector.found.notes.append(f'annotations that are not regions are not used: {count_kinds(ignored)}')
    return collector.finish(list(dict.fromkeys(classes)))


def _read_item(collector: Collector, file: PurePosixPath, number: int, item: dict, classes: list[str],
               labels: list[tuple[AnnotatedImage, int, list[str]]], ignored: Counter[str]) -> None:
    """Add an image with its objects and labels."""
    listed = item.get('annotations')
    entries = [each for each in (listed if isinstance(listed, list) else ()) if isinstance(each, dict)]
    regions = [each for each in entries if each.get('type') not in ('label', *_NOT_REGIONS)]
    to = collector.add_image(_names_of(item), file, number, stated=_stated_size(item), objects=len(regions))
    if to is None:
        return
    ignored.update(str(each.get('type')) for each in entries if each.get('type') in _NOT_REGIONS)
    labels.append((to, number, [_name(each, classes) for each in entries if each.get('type') == 'label']))
    parts: dict[Any, tuple[str, list[Shape], set[str]]] = {}
    for index, each in enumerate(regions, 1):
        name = _name(each, classes)
        try:
            shape = _shape(each)
        except ValueError as error:
            collector.refuse_object(to, number, f'{to.image.path.name}, annotation {index} '
                                               f'({name or "without a label"}): {error}')
            continue
        group = each.get('group')
        # parts of an object have the same group, other than 0
        key = (name, group) if isinstance(group, int) and group else index
        _, found, marks = parts.setdefault(key, (name, [], set()))
        found.append(shape)
        if isinstance(attributes := each.get('attributes'), dict):
            marks |= {mark for mark in _MARKS if parse_flag(attributes.get(mark))}
    for name, found, marks in parts.values():
        # an object may be given by its mask and by its box
        added = collector.add_object(to, name, number, [each for each in found if each.box is None] or found)
        if added is not None:
            added.is_crowd, added.is_difficult = (mark in marks for mark in _MARKS)


def _stated_size(item: dict) -> tuple[float, float] | None:
    image = item.get('image')
    try:
        height, width = image['size']  # type: ignore[index]
        return to_number(width), to_number(height)
    except (KeyError, TypeError, ValueError):
        return None


def _name(entry: dict, classes: list[str]) -> str:
    index = entry.get('label_id')
    return classes[index] if type(index) is int and 0 <= index < len(classes) else ''


def _shape(entry: dict) -> Shape:
    """Return an annotation in pixels.

    Raises:
        ValueError: It is not valid, or of a kind that encloses no region.
    """
    kind, points = entry.get('type'), entry.get('points')
    numbers = [to_number(value) for value in points] if isinstance(points, list) and kind != 'cuboid_2d' else []
    if kind == 'bbox':
        listed = entry.get('bbox')
        if not isinstance(listed, list) or len(listed) != 4:
            raise ValueError('a bbox without four numbers')
        x, y, width, height = map(to_number, listed)
        attributes = entry.get('attributes')
        degrees = to_number((attributes.get('rotation') if isinstance(attributes, dict) else None) or 0)
        return shapes.rectangle(x, y, x + width, y + height, degrees)
    if kind == 'polygon':
        if len(numbers) % 2:
            raise ValueError(f'a polygon of {len(numbers)} numbers')
        return shapes.polygon(to_points([numbers[i:i + 2] for i in range(0, len(numbers), 2)]))
    if kind == 'ellipse' and len(numbers) == 4:
        x1, y1, x2, y2 = numbers
        return shapes.ellipse((x1 + x2) / 2, (y1 + y2) / 2, abs(x2 - x1) / 2, abs(y2 - y1) / 2)
    if kind == 'rotated_bbox' and len(numbers) == 5:
        x, y, width, height, degrees = numbers
        return shapes.rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2, degrees)
    if kind == 'mask':
        return shapes.bitmap(_decode(entry.get('rle')), 0, 0)
    raise ValueError(f'a {kind} is not converted; draw a polygon or a rectangle in its place')


def _decode(rle: Any) -> np.ndarray:
    """Return the (h, w) mask of an RLE.

    Raises:
        ValueError: It is not valid.
    """
    if not isinstance(rle, dict) or not mask_area(rle):
        raise ValueError('the mask encloses nothing, or is not a valid RLE')
    return decode_mask(encode_annotation(rle))


FORMAT = Format('datumaro', 'a JSON file with "categories" and "items", as Datumaro and CVAT write it', _recognize,
                _read)
