"""Label Studio: exports as JSON and JSON-MIN."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, count_kinds, find_image
from vitdet_plugin.datasets.formats.files import find_json, load_json, read_all_json, weigh
from vitdet_plugin.datasets.formats.label_studio_brush import decode_bitmask, decode_brush
from vitdet_plugin.datasets.formats.shapes import Shape, to_number, to_points
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES
from vitdet_plugin.utils.track import track

_UPLOAD = re.compile(r'^[0-9a-f]{8}-(?=.)')  # put before the name of an uploaded file
_USUAL_KEYS = ('image', 'img', 'photo', 'picture', 'url', 'file', 'path')  # language: ok
_NOT_REGIONS = ('choices', 'textarea', 'rating', 'relation', 'taxonomy', 'number', 'datetime', 'pairwise')
_NOT_LABELS = ('id', 'annotator', 'annotation_id', 'created_at', 'updated_at', 'lead_time')


def _is_task(content: Any) -> bool:
    """Whether this is a task of the export as JSON."""
    return isinstance(content, dict) and isinstance(content.get('data'), dict) and any(
        isinstance(content.get(key), list) for key in ('annotations', 'completions'))


def _is_short(content: Any) -> bool:
    """Whether this is a task of the export as JSON-MIN."""
    return isinstance(content, dict) and bool(_image_name(content)) and not _is_task(content) and (
        'annotation_id' in content or 'annotator' in content or any(map(_stated_size, _short_results(content))))


def _is_label_studio(content: Any) -> bool:
    if isinstance(content, dict):
        return _is_task(content)
    tried = content[:20] if isinstance(content, list) else []
    return 2 * sum(_is_task(each) or _is_short(each) for each in tried) > len(tried)


def _recognize(tree: FileTree) -> str | None:
    for mark in ('"annotations"', '"completions"', '"original_width"', '"annotat'):
        if found := find_json(tree, _is_label_studio, mark):
            content = load_json(tree, found[0])
            tasks = [content] if isinstance(content, dict) else content[:20]
            tasks = [each for each in tasks if _is_task(each) or _is_short(each)]
            names = [name for each in tasks for name in _names_of_image(_image_name(each.get('data', each)))]
            return weigh(f'{found[0]} with tasks of Label Studio', [find_image(tree, name, found[0]) for name in names])
    return None


def _read(tree: FileTree) -> SourceSet:
    reader = _Reader(Collector(tree, 'label-studio'))
    for file, content in read_all_json(tree, reader.collector.found, _is_label_studio):
        tasks = [content] if isinstance(content, dict) else content
        for number, task in enumerate(track(tasks, len(tasks), f'tasks of {file.name}'), 1):
            reader.add_task(file, number, task)
    return reader.finish()


class _Reader:
    """State over all tasks: choices of images, counts for the notes."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.choices: list[tuple[AnnotatedImage, int, list[str]]] = []
        self.counts: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()

    def add_task(self, file: PurePosixPath, number: int, task: Any) -> None:
        """Add the image of a task with its objects."""
        where = self.collector.tree.path(file)
        if _is_task(task):
            results = self._chosen_results(task)
            name = _image_name(task['data'])
        elif _is_short(task):
            results, name = _short_results(task), _image_name(task)
        else:
            self.collector.problem(where, number, 'not a task of Label Studio')
            return
        if results is None:
            return
        results = [each for each in results if isinstance(each, dict)]
        regions = _regions(results)
        uploaded = task.get('file_upload')
        names = _names_of_image(name) + _names_of_image(uploaded if isinstance(uploaded, str) else '')
        stated = next((size for each in results if (size := _stated_size(each))), None)
        to = self.collector.add_image(names, file, number, stated=stated, objects=len(regions))
        if to is None:
            return
        self.choices.append((to, number, [choice for each in results if not _is_region(each)
                                          for choice in _texts(_value(each).get('choices'))]))
        for index, (region, labels) in enumerate(regions, 1):
            self._add_region(to, number, index, region, labels)
        self.ignored.update(str(each.get('type')) for each in results
                            if not _is_region(each) and 'choices' not in _value(each))

    def _chosen_results(self, task: dict) -> list | None:
        """Return the results of the first annotation that is not canceled, or None without one."""
        listed = task.get('annotations') or task.get('completions') or []
        usable = [each for each in listed if isinstance(each, dict) and not each.get('was_cancelled')  # language: ok
                  and isinstance(each.get('result'), list)]
        self.counts['canceled'] += len(listed) - len(usable)
        self.counts['several'] += len(usable) > 1
        self.counts['without'] += not usable
        return usable[0]['result'] if usable else None

    def _add_region(self, to: AnnotatedImage, number: int, index: int, region: dict, labels: list[str]) -> None:
        try:
            if len(labels) > 1:
                raise ValueError(f'a region with {len(labels)} labels ({", ".join(labels)}); leave one')
            shape = _shape(region, to)
        except ValueError as error:
            label = labels[0] if labels else 'without a label'
            self.collector.refuse_object(to, number, f'{to.image.path.name}, region {index} ({label}): {error}')
            return
        self.collector.add_object(to, labels[0] if labels else '', number, [shape])

    def finish(self) -> SourceSet:
        """Use the choices as classes of the images if there are no objects, and add the notes."""
        found = self.collector.found
        self.collector.use_labels(self.choices, 'choices')
        for key, text in (('canceled', 'canceled annotations are skipped'),
                          ('several', 'tasks have several annotations; the first one is used'),
                          ('without', 'tasks without an annotation are left out')):
            if self.counts[key]:
                found.notes.append(f'{self.counts[key]} {text}')
        if self.ignored:
            found.notes.append(f'results that are not regions of images are not used: {count_kinds(self.ignored)}')
        return self.collector.finish()


def _value(result: dict) -> dict:
    value = result.get('value')
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    return [str(each) for each in (value if isinstance(value, list) else [value]) if each is not None]


def _labels(result: dict) -> list[str]:
    """Return the labels of a result: ``rectanglelabels``, ``labels`` and so on of its value."""
    return [name for key, value in _value(result).items() if str(key).endswith('labels') for name in _texts(value)]


def _kind(result: dict) -> str:
    """Return the kind of region: ``rectangle``, ``polygon``, ...; other types are returned as they are."""
    return str(result.get('type') or '').removesuffix('labels')


def _is_region(result: dict) -> bool:
    value = _value(result)
    return _kind(result) not in _NOT_REGIONS and any(
        key in value for key in ('x', 'points', 'rle', 'vertices', 'sequence', 'imageDataURL'))


def _regions(results: list[dict]) -> list[tuple[dict, list[str]]]:
    """Return each region with its labels; a region and its labels may be two results with the same id."""
    found: list[tuple[dict, list[str]]] = []
    half: dict[str, int] = {}  # regions without labels, and labels without the kind of region, by their id
    for result in filter(_is_region, results):
        key, labels, is_bare = repr(result.get('id')), _labels(result), not _kind(result)
        other = found[half[key]] if key in half and result.get('id') is not None else None
        if other and is_bare and labels and not other[1] and _kind(other[0]):
            found[half.pop(key)] = other[0], labels
        elif other and not is_bare and not labels and not _kind(other[0]):
            found[half.pop(key)] = result, other[1]
        else:
            if is_bare or not labels:
                half[key] = len(found)
            found.append((result, labels))
    return found


def _shape(result: dict, to: AnnotatedImage) -> Shape:
    """Return a region in pixels of the image as it was labeled.

    Raises:
        ValueError: It is not valid, or of a kind that encloses no region.
    """
    value, kind = _value(result), _kind(result)
    if result.get('image_rotation') or value.get('image_rotation'):
        raise ValueError('labeled on an image that was rotated in Label Studio; rotate it back and label it again')
    size = _stated_size(result) or (to.image.width / to.scale[0], to.image.height / to.scale[1])
    width, height = size[0] / 100, size[1] / 100  # coordinates are in percent

    def values(*names: str) -> list[float]:
        if missing := [name for name in names if name not in value]:
            raise ValueError(f'a {kind} without {missing[0]}')
        return [to_number(value[name]) for name in names]
    degrees = to_number(value.get('rotation') or 0)
    if kind in ('rectangle', 'labels', '') and 'width' in value:
        x, y, w, h = values('x', 'y', 'width', 'height')
        return shapes.rectangle(x * width, y * height, (x + w) * width, (y + h) * height, degrees,
                                (x * width, y * height))
    if kind == 'ellipse':
        x, y, x_radius, y_radius = values('x', 'y', 'radiusX', 'radiusY')
        return shapes.ellipse(x * width, y * height, x_radius * width, y_radius * height, degrees)
    if kind == 'polygon':
        return shapes.polygon([[x * width, y * height] for x, y in to_points(value.get('points'))])
    if kind in ('bitmask', 'brush') and 'imageDataURL' in value:
        pixels = decode_bitmask(value['imageDataURL'])
        if pixels.shape != (round(size[1]), round(size[0])):
            raise ValueError(f'a bitmask of {pixels.shape[1]} x {pixels.shape[0]} pixels in an image of {size[0]:g} x '
                             f'{size[1]:g}')
        return shapes.bitmap(pixels, 0, 0)
    if kind in ('bitmask', 'brush') and 'rle' in value:
        return shapes.bitmap(decode_brush(value['rle'], round(size[0]), round(size[1])), 0, 0)
    raise ValueError(f'a region of type {result.get("type")} is not converted; draw a polygon or a rectangle in its '
                     'place')


def _stated_size(result: dict) -> tuple[float, float] | None:
    try:
        size = to_number(result.get('original_width')), to_number(result.get('original_height'))
    except ValueError:
        return None
    return size if min(size) > 0 else None


def _short_results(task: dict) -> list[dict]:
    """Return the regions and choices of a task in JSON-MIN as results of the export as JSON."""
    found = []
    for key, value in task.items():
        if isinstance(value, list) and any(isinstance(each, dict) for each in value):
            for each in value:
                if not isinstance(each, dict):
                    continue
                kind = next((name for name in each if str(name).endswith('labels')), '')
                kind = 'brushlabels' if 'rle' in each else 'bitmasklabels' if 'imageDataURL' in each else kind
                if kind == 'labels' or not kind:
                    kind = 'polygon' if 'points' in each else 'ellipse' if 'radiusX' in each else 'rectangle'
                found.append({**each, 'type': kind, 'value': each})
        elif isinstance(value, dict) and isinstance(value.get('choices'), list):
            found.append(dict(type='choices', value=value))
        elif isinstance(value, str) and key in ('choice', 'choices'):
            found.append(dict(type='choices', value=dict(choices=[value])))
    return found


def _image_name(data: dict) -> str:
    """Return the value of a task that names an image; empty without one."""
    texts = {key: value for key, value in data.items()
             if isinstance(value, str) and value.strip() and key not in _NOT_LABELS}
    images = [key for key, value in texts.items()
              if (_names_of_image(value) or [''])[0].lower().endswith(IMAGE_SUFFIXES)]
    usual = [key for key in _USUAL_KEYS if key in texts]
    key = next((key for key in [*usual, *images] if key in images), usual[0] if usual else None)
    return texts[key] if key else ''


def _names_of_image(text: str) -> list[str]:
    """Return the path of an image without the parts of URLs, and without the random prefix of an uploaded file."""
    if not text:
        return []
    try:
        parts = urlsplit(text) if '://' in text or text.startswith('/data/') else None
    except ValueError:  # such as a [ in the name of the server
        parts = None
    path = text
    if parts is not None:
        # /data/local-files/?d=folder/a.jpg
        path = parse_qs(parts.query).get('d', [''])[0] or unquote(parts.path)
        path = f'{parts.netloc}/{path.lstrip("/")}' if parts.scheme and not parts.query else path
    folder, _, name = path.replace('\\', '/').rpartition('/')
    short = _UPLOAD.sub('', name)
    return [path] if short == name else [path, f'{folder}/{short}' if folder else short]


FORMAT = Format('label-studio', 'an export of Label Studio as JSON or JSON-MIN: a list of tasks', _recognize, _read)
