"""VoTT: its JSON export, the JSON file for each image of a project, and the single file of version 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.files import find_json, load_json, read_all_json, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number, to_points
from vitdet_plugin.datasets.formats.tree import FileTree

_NOT_VISITED = 0  # of "state"


def _is_asset(content: Any) -> bool:
    """Whether this is an image with its regions."""
    return isinstance(content, dict) and isinstance(content.get('asset'), dict) and isinstance(
        content.get('regions'), list) and isinstance(content['asset'].get('name'), str)


def _is_export(content: Any) -> bool:
    """Whether this is the JSON export: a project with all images."""
    return isinstance(content, dict) and isinstance(content.get('assets'), dict) and any(
        map(_is_asset, content['assets'].values()))


def _is_version_1(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get('frames'), dict) and any(
        key in content for key in ('inputTags', 'visitedFrames', 'tag_colors', 'framerate'))


def _is_vott(content: Any) -> bool:
    return _is_asset(content) or _is_export(content) or _is_version_1(content)


def _names_of(asset: dict) -> list[str]:
    """Return the path and the name of an image; frames of videos are exported with ``.jpg`` after their time."""
    path = asset.get('path')
    names = [unquote(path.removeprefix('file:'))] if isinstance(path, str) else []
    name = asset['name']
    return [*names, name, *([f'{name}.jpg'] if '#t=' in name else [])]


def _assets(content: dict) -> Iterator[dict]:
    """Yield images with regions of any of the three forms."""
    if _is_asset(content):
        yield content
    elif _is_export(content):
        yield from (each if _is_asset(each) else {} for each in content['assets'].values())
    else:
        for name, regions in content['frames'].items():
            regions = [each for each in regions if isinstance(each, dict)] if isinstance(regions, list) else []
            # coordinates are those of the image as it was displayed
            size = next((dict(width=each['width'], height=each['height']) for each in regions
                         if 'width' in each and 'height' in each), None)
            yield dict(asset=dict(name=name, size=size), regions=regions)


def _recognize(tree: FileTree) -> str | None:
    for mark in ('"regions"', '"frames"', '"assets"', '"asset"'):
        if found := find_json(tree, _is_vott, mark):
            assets = [each for file in found[:5] for each in _assets(load_json(tree, file)) if each][:20]
            return weigh(f'{found[0]} with regions of VoTT', [
                find_image(tree, name, found[0]) for each in assets for name in _names_of(each['asset'])])
    return None


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'vott')
    tags: list[str] = []
    counts: Counter[str] = Counter()
    single, whole = [], []
    for file, content in read_all_json(tree, collector.found, _is_vott):
        if _is_asset(content):
            single.append((file, content))
            continue
        listed = content.get('tags')
        tags += [each['name'] for each in (listed if isinstance(listed, list) else ())
                 if isinstance(each, dict) and isinstance(each.get('name'), str)]
        for number, asset in enumerate(_assets(content), 1):
            whole.append(asset.get('asset', {}).get('id'))
            _read_asset(collector, file, number, asset, counts)
    exported = {each for each in whole if isinstance(each, str)}
    for file, content in single:
        if str(content['asset'].get('id')) in exported:
            counts['twice'] += 1
        else:
            _read_asset(collector, file, None, content, counts)
    for key, text in (('new', 'images were not looked at in VoTT and are left out'),
                      ('twice', 'files of single images (…-asset.json) are not read since an export has their images')):
        if counts[key]:
            collector.found.notes.append(f'{counts[key]} {text}')
    used = collector.found.count_objects()
    return collector.finish([name for name in dict.fromkeys(tags) if name in used])


def _read_asset(collector: Collector, file: PurePosixPath, number: int | None, content: dict, counts: Counter[str]
                ) -> None:
    """Add an image and its regions."""
    if not content:
        collector.problem(collector.tree.path(file), number, 'not an image of VoTT: no "asset" with a name, or no '
                                                             '"regions"')
        return
    asset, regions = content['asset'], content['regions']
    if asset.get('state') == _NOT_VISITED and not regions:
        counts['new'] += 1
        return
    try:
        stated = to_number(asset['size']['width']), to_number(asset['size']['height'])
    except (KeyError, TypeError, ValueError):
        stated = None
    to = collector.add_image(_names_of(asset), file, number, stated=stated, objects=len(regions))
    for index, region in enumerate(regions if to is not None else (), 1):
        _add_region(collector, to, number, index, region)


def _add_region(collector: Collector, to: AnnotatedImage, number: int | None, index: int, region: Any) -> None:
    names: list[str] = []
    try:
        if not isinstance(region, dict):
            raise ValueError('not a region')
        listed = region.get('tags')
        names = [str(name) for name in listed] if isinstance(listed, list) else []
        if len(names) > 1:
            raise ValueError('several tags; leave one')
        shape = _shape(region)
    except ValueError as error:
        collector.refuse_object(to, number, f'{to.image.path.name}, region {index} '
                                           f'({", ".join(names) or "without a tag"}): {error}')
        return
    collector.add_object(to, names[0] if names else '', number, [shape])


def _shape(region: dict) -> Shape:
    """Return a region in pixels of the image as it was annotated.

    Raises:
        ValueError: It is not valid, or of a kind that encloses no region.
    """
    kind, box = str(region.get('type') or 'RECTANGLE').upper(), region.get('boundingBox')
    if kind in ('RECTANGLE', 'SQUARE', 'RECT') and isinstance(box, dict):
        if missing := [key for key in ('left', 'top', 'width', 'height') if key not in box]:
            raise ValueError(f'a boundingBox without {missing[0]}')
        left, top, width, height = (to_number(box[key]) for key in ('left', 'top', 'width', 'height'))
        return shapes.rectangle(left, top, left + width, top + height)
    if kind in ('RECTANGLE', 'SQUARE', 'RECT') and all(key in region for key in ('x1', 'y1', 'x2', 'y2')):
        x1, y1, x2, y2 = (to_number(region[key]) for key in ('x1', 'y1', 'x2', 'y2'))
        return shapes.rectangle(x1, y1, x2, y2)
    if kind == 'POLYGON':
        points = region.get('points')
        return shapes.polygon(to_points([[each.get('x'), each.get('y')] if isinstance(each, dict) else each
                                         for each in (points if isinstance(points, list) else ())]))
    raise ValueError(f'a region of type {kind} is not converted; draw a polygon or a rectangle in its place')


FORMAT = Format('vott', 'JSON files of VoTT: an export with "assets", or a file for each image with "asset" and '
                '"regions"', _recognize, _read)
