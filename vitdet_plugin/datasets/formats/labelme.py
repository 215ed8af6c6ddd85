"""LabelMe, AnyLabeling and X-AnyLabeling: a JSON file for each image."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Doubtful, Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import find_json, load_json, read_all_json, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number, to_points
from vitdet_plugin.datasets.formats.tree import FileTree

_NOT_CLASSES = ('__ignore__', '_background_')  # labels that LabelMe's own converters leave out


def _is_labelme(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(content.get('shapes'), list):
        return False
    if 'imagePath' in content or 'imageData' in content:
        return True
    return bool(content['shapes']) and all(isinstance(each, dict) and 'points' in each and 'label' in each
                                           for each in content['shapes'])


def _recognize(tree: FileTree) -> str | None:
    # imageData may be megabytes of text before the shapes
    found = find_json(tree, _is_labelme, '"shapes"') or find_json(tree, _is_labelme, '"imageData"')
    if not found:
        return None
    evidence = f'{len(tree.with_suffix(".json"))} JSON files, such as {found[0]} with shapes of LabelMe'
    contents = [load_json(tree, file) for file in found[:5]]
    if not any(content['shapes'] for content in contents):
        return Doubtful(f'{evidence}; the shapes of some are empty')
    return weigh(evidence, [find_image(tree, name, file) for file, content in zip(found, contents)
                            for name in (str(content.get('imagePath') or ''), f'{file.stem}.jpg')])


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'labelme')
    flags: list[tuple[AnnotatedImage, int | None, list[str]]] = []
    for file, content in read_all_json(tree, collector.found, _is_labelme):
        to, stated = _read_file(collector, file, content), content.get('flags')
        names = [str(name) for name, value in stated.items() if value is True] if isinstance(stated, dict) else []
        if to is not None and _NOT_CLASSES[0] in names:
            collector.drop(to.image)
            collector.problem(to.file, None, f'the flag {_NOT_CLASSES[0]} is set; the image is left out')
        elif to is not None:
            flags.append((to, None, names))
    counts = Counter(name for _, _, names in flags for name in names)
    if counts and any(image.objects for image in collector.found.images):
        listed = ', '.join(f'{name} ({count})' for name, count in counts.most_common(5))
        collector.found.notes.append(f'{counts.total()} flags of whole images are not used: {listed}')
    else:
        collector.use_labels(flags, 'flags')
    return collector.finish()


def _read_file(collector: Collector, file: PurePosixPath, content: dict) -> AnnotatedImage | None:
    """Add the image and the objects of a file, and return the image."""
    try:
        stated = to_number(content['imageWidth']), to_number(content['imageHeight'])
    except (KeyError, ValueError):  # older versions do not state it
        stated = None
    name = content.get('imagePath')
    name, own = name if isinstance(name, str) else '', collector.with_stem(file)
    # a file that was renamed together with its image still has the old name of the image
    is_renamed = own and own[0].parent == file.parent and PurePosixPath(name.replace('\\', '/')).stem != file.stem
    names = [str(each) for each in own] if is_renamed else [name, *map(str, own)]
    found = [find_image(collector.tree, each, file) for each in names if each]
    if content.get('imageData') and not any(isinstance(each, Path) for each in found):
        collector.problem(collector.tree.path(file), None,
                          f'the image {name} is not below {collector.tree.root}; its {len(content["shapes"])} objects '
                          'are not converted. The file contains the pixels (imageData): save them as an image next to '
                          'it, for example with labelme_export_json')
        return None
    to = collector.add_image(names, file, stated=stated, objects=len(content['shapes']))
    if to is not None:
        for number, (label, parts) in _objects(collector, to, content['shapes']).items():
            collector.add_object(to, label, number, parts)
    return to


def _objects(collector: Collector, to: AnnotatedImage, entries: list) -> dict[int, tuple[str, list[Shape]]]:
    """Return the label and the parts of each object by the number of its first shape; faults become problems."""
    found: dict[int, tuple[str, list[Shape]]] = {}
    first_of: dict[tuple, int] = {}
    for number, entry in enumerate(entries, 1):
        label = entry.get('label') if isinstance(entry, dict) else None
        try:
            if not isinstance(entry, dict):
                raise ValueError('not a shape')
            label = str(label) if type(label) in (int, float) else label
            if label in _NOT_CLASSES:
                raise ValueError('this label means no object in LabelMe; it is left out')
            shape = _shape(entry)
        except ValueError as error:
            collector.problem(to.file, number, f'{label or "a shape without a label"}: {error}')
            continue
        group = entry.get('group_id')
        key = number if group is None else first_of.setdefault((repr(label), repr(group)), number)
        found.setdefault(key, (label, []))[1].append(shape)
    return found


def _shape(entry: dict) -> Shape:
    """Return a shape in pixels.

    Raises:
        ValueError: It is not valid, or of a kind that encloses no region.
    """
    kind, points = entry.get('shape_type') or 'polygon', to_points(entry.get('points'))
    if kind in ('polygon', 'rotation', 'oriented_rectangle'):
        return shapes.polygon(points)
    if kind == 'rectangle':
        if len(points) == 2:
            return shapes.rectangle(*points[0], *points[1])
        if len(points) != 4:
            raise ValueError(f'a rectangle of {len(points)} points; two or four are needed')
        xs, ys = {x for x, _ in points}, {y for _, y in points}
        is_upright = len(xs) <= 2 and len(ys) <= 2
        return shapes.rectangle(min(xs), min(ys), max(xs), max(ys)) if is_upright else shapes.polygon(points)
    if kind == 'circle':
        if len(points) != 2:
            raise ValueError(f'a circle of {len(points)} points; the center and a point on it are needed')
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        return shapes.ellipse(x, y, radius, radius)
    if kind == 'mask':
        pixels = shapes.decode_mask(shapes.decode_base64(entry.get('mask')))
        if not points:
            raise ValueError('a mask without its corner in points')
        return shapes.bitmap(pixels, *points[0])
    raise ValueError(f'a shape of type {kind} is not converted; draw a polygon or a rectangle in its place')


FORMAT = Format('labelme', 'a JSON file for each image with "shapes" and "imagePath", as LabelMe, AnyLabeling and '
                'X-AnyLabeling write it', _recognize, _read)
