"""Supervisely: ``meta.json`` and, for each data set, the folders ``ann`` and ``img``."""

from __future__ import annotations

import zlib
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from vitdet_plugin.datasets.conversion import Problem
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import Collector, count_kinds, find_image
from vitdet_plugin.datasets.formats.files import load_json, sample, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number, to_points
from vitdet_plugin.datasets.formats.tree import SPLIT_OF, FileTree
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES
from vitdet_plugin.utils.track import track

_MOST_BYTES = 2**28  # of a bitmap as an image file


def _whole(tree: FileTree) -> FileTree:
    """Return all files if the user named meta.json."""
    is_meta = tree.chosen is not None and tree.chosen.name.lower() == 'meta.json'
    return FileTree(tree.chosen.parent) if is_meta else tree


def _is_annotation(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get('objects'), list) and isinstance(
        content.get('size'), dict) and (not content['objects'] or any(isinstance(each, dict) and 'classTitle' in each
                                                                      for each in content['objects']))


def _annotations(tree: FileTree) -> list[PurePosixPath]:
    return [file for file in tree.with_suffix('.json') if file.parent.name == 'ann']


def _classes_of(content: Any) -> list[str] | None:
    """Return the names of the classes in meta.json, or None if it is another file."""
    if not isinstance(content, dict) or not isinstance(content.get('classes'), list):
        return None
    if not all(isinstance(each, dict) and isinstance(each.get('title'), str) for each in content['classes']):
        return None
    return [each['title'] for each in content['classes']]


def _read_meta(tree: FileTree) -> list[str]:
    """Return the classes of all files meta.json in their order."""
    found: list[str] = []
    for file in tree.with_suffix('.json'):
        if file.name.lower() == 'meta.json':
            try:
                found += _classes_of(load_json(tree, file)) or []
            except ValueError:
                continue
    return list(dict.fromkeys(found))


def _recognize(tree: FileTree) -> str | None:
    tree = _whole(tree)
    files = _annotations(tree)
    for file in sample(files, limit=6):
        try:
            if _is_annotation(load_json(tree, file)):
                classes = _read_meta(tree)
                meta = f'meta.json with {len(classes)} classes, ' if classes else ''
                return weigh(f'{meta}{len(files)} JSON files, such as {file} with objects of Supervisely',
                             [find_image(tree, f'img/{name}', PurePosixPath(file.parent.parent, 'x'))
                              for name in (file.stem, f'{file.stem}.jpg')])
        except ValueError:
            continue
    return None


def _read(tree: FileTree) -> SourceSet:
    tree = _whole(tree)
    collector = Collector(tree, 'supervisely')
    tags: Counter[str] = Counter()
    files = _annotations(tree)
    for file in track(files, len(files), 'annotation files'):
        try:
            content = load_json(tree, file)
        except ValueError as error:
            collector.found.problems.append(Problem(tree.path(file), *error.args))
            continue
        if not _is_annotation(content):
            collector.problem(tree.path(file), None, 'not an annotation of Supervisely: no "objects" with classTitle, '
                              'or no "size"')
            continue
        _read_file(collector, file, content, tags)
    if tags:
        collector.found.notes.append(f'tags are not used, except train, val and test: {count_kinds(tags)}')
    return collector.finish(_read_meta(tree))


def _read_file(collector: Collector, file: PurePosixPath, content: dict, tags: Counter[str]) -> None:
    """Add the image and the objects of a file."""
    try:
        stated = to_number(content['size']['width']), to_number(content['size']['height'])
    except (KeyError, ValueError):
        stated = None
    of_image = _tag_names(content)
    splits = {SPLIT_OF[name.lower()] for name in of_image if name.lower() in SPLIT_OF}
    tags.update(name for name in of_image if name.lower() not in SPLIT_OF)
    # a.jpg.json, or a.json in older exports
    image = file.parent.parent / 'img' / file.stem
    names = [str(image)] if image.suffix.lower() in IMAGE_SUFFIXES else [
        str(each) for each in collector.with_stem(image.parent / file.name)] or [str(image)]
    to = collector.add_image(names, file, stated=stated, split=splits.pop() if len(splits) == 1 else None,
                             objects=len(content['objects']))
    for number, entry in enumerate(content['objects'] if to is not None else (), 1):
        label = entry.get('classTitle') if isinstance(entry, dict) else None
        try:
            if not label:
                raise ValueError('no classTitle')
            tags.update(_tag_names(entry))
            collector.add_object(to, label, number, [_shape(entry)])
        except ValueError as error:
            collector.refuse_object(to, number, f'{label or "an object"}: {error}')


def _tag_names(content: dict) -> list[str]:
    listed = content.get('tags')
    return [str(each.get('name')) if isinstance(each, dict) else str(each)
            for each in (listed if isinstance(listed, list) else ())]


def _shape(entry: dict) -> Shape:
    """Return a shape in pixels.

    Raises:
        ValueError: It is not valid, or of a kind that encloses no region.
    """
    kind, points = entry.get('geometryType'), entry.get('points')
    if not kind:  # older exports
        kind = 'bitmap' if entry.get('bitmap') else 'polygon'
    if kind == 'bitmap':
        content = entry.get('bitmap')
        origin = to_points([content.get('origin')])[0] if isinstance(content, dict) else [0, 0]
        try:
            compressed = shapes.decode_base64(content.get('data') if isinstance(content, dict) else None)
            data = zlib.decompressobj().decompress(compressed, _MOST_BYTES)
        except zlib.error:
            raise ValueError('the data of a bitmap are not compressed by zlib') from None
        return shapes.bitmap(shapes.decode_mask(data), *origin)
    if kind in ('polygon', 'rectangle'):
        exterior = to_points(points.get('exterior') if isinstance(points, dict) else None)
        if kind == 'polygon':
            interior = points.get('interior') or []
            if not isinstance(interior, list):
                raise ValueError('the interior of a polygon is not a list of holes')
            return shapes.polygon(exterior, map(to_points, interior))
        if len(exterior) != 2:
            raise ValueError(f'a rectangle of {len(exterior)} points; two are needed')
        return shapes.rectangle(*exterior[0], *exterior[1])
    raise ValueError(f'a {kind} is not converted; draw a polygon or a rectangle in its place')


FORMAT = Format('supervisely', 'meta.json with classes, and folders ann (a JSON file for each image) and img, as '
                'Supervisely exports them', _recognize, _read)
