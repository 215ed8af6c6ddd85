"""Create ML: a JSON list of images with boxes given by their centers, as Apple's tools and Roboflow write it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import find_json, load_json, read_all_json, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.utils.track import track

_BEYOND = 0.1  # by which relative coordinates may reach beyond the image


def _image_of(entry: Any) -> str:
    """Return the name of the image of an entry; empty without one."""
    name = (entry.get('image') or entry.get('imagefilename')) if isinstance(entry, dict) else None
    return name if isinstance(name, str) else ''


def _annotations_of(entry: dict) -> list:
    listed = entry.get('annotations', entry.get('annotation'))
    return listed if isinstance(listed, list) else []


def _has_boxes(entry: Any) -> bool:
    return bool(_image_of(entry)) and any(isinstance(each, dict) and isinstance(each.get('coordinates'), dict)
                                          for each in _annotations_of(entry))


def _is_createml(content: Any) -> bool:
    """Whether this is a list of images, some of the first with boxes."""
    if not isinstance(content, list) or 2 * sum(bool(_image_of(each)) for each in content[:20]) <= len(content[:20]):
        return False
    return any(map(_has_boxes, content[:200]))


def _recognize(tree: FileTree) -> str | None:
    found = find_json(tree, _is_createml, '"coordinates"')
    if not found:
        return None
    content = load_json(tree, found[0])
    names = [_image_of(each) for each in content[:20]]
    return weigh(f'{found[0]} with {len(content)} images and "coordinates" of Create ML',
                 [find_image(tree, name, found[0]) for name in names if name])


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'createml')
    for file, content in read_all_json(tree, collector.found, _is_createml):
        is_relative = _are_relative(content)
        if is_relative:
            collector.found.notes.append(f'{file}: coordinates are relative to the size of the image, since none is '
                                         'above 1')
        for number, entry in enumerate(track(content, len(content), f'images of {file.name}'), 1):
            if not _image_of(entry):
                collector.problem(tree.path(file), number, 'not an entry of Create ML: no "image"')
                continue
            _read_entry(collector, file, number, entry, is_relative)
    return collector.finish()


def _read_entry(collector: Collector, file: PurePosixPath, number: int, entry: dict, is_relative: bool) -> None:
    """Add the image and the objects of an entry."""
    listed = _annotations_of(entry)
    to = collector.add_image([_image_of(entry)], file, number, objects=len(listed))
    for index, each in enumerate(listed if to is not None else (), 1):
        label = each.get('label') if isinstance(each, dict) else None
        label = str(label) if type(label) in (int, float) else label
        try:
            if not isinstance(each, dict):
                raise ValueError('not an object')
            collector.add_object(to, label, number, [_shape(each.get('coordinates'), to, is_relative)])
        except ValueError as error:
            collector.refuse_object(to, number, f'{to.image.path.name}, object {index} '
                                               f'({label or "without a label"}): {error}')


def _are_relative(content: Sequence[Any]) -> bool:
    """Whether all boxes have coordinates between 0 and 1."""
    values = [value for entry in content if isinstance(entry, dict) for each in _annotations_of(entry)
              if isinstance(each, dict) and isinstance(each.get('coordinates'), dict)
              for value in each['coordinates'].values() if type(value) in (int, float)]
    return bool(values) and max(map(abs, values)) <= 1 + _BEYOND


def _shape(coordinates: Any, to: AnnotatedImage, is_relative: bool) -> Shape:
    """Return a box in pixels.

    Raises:
        ValueError: It has not the four numbers.
    """
    if not isinstance(coordinates, dict):
        raise ValueError('no "coordinates"')
    if missing := [key for key in ('x', 'y', 'width', 'height') if key not in coordinates]:
        raise ValueError(f'coordinates without {missing[0]}')
    x, y, width, height = (to_number(coordinates[key]) for key in ('x', 'y', 'width', 'height'))
    if is_relative:
        x, width = x * to.image.width, width * to.image.width
        y, height = y * to.image.height, height * to.image.height
    if min(width, height) <= 0:
        raise ValueError(f'a box of {width:g} x {height:g}')
    return shapes.rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)


FORMAT = Format('createml', 'a JSON list of images with "annotations" and "coordinates" (center, width, height), as '
                'Create ML and Roboflow write it', _recognize, _read)
