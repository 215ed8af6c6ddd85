"""CVAT: XML files of version 1.1 for images; those for video are in :mod:`cvat_video`."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import PurePosixPath

import numpy as np

from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector, find_image
from vitdet_plugin.datasets.formats.cvat_video import Tracks, read_tracks
from vitdet_plugin.datasets.formats.files import head, sample, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number
from vitdet_plugin.datasets.formats.tree import SPLIT_OF, FileTree
from vitdet_plugin.datasets.voc_xml import Node, read_xml
from vitdet_plugin.utils.track import track

_MOST_PIXELS = 2**30  # of a mask
_WITHOUT_REGION = ('points', 'polyline', 'skeleton', 'cuboid')
_PARTS = ('polygon', 'mask', 'ellipse')
_KINDS = ('box', 'polygon', 'mask', 'ellipse', *_WITHOUT_REGION)


def _is_cvat(tree: FileTree, file: PurePosixPath) -> bool:
    text = head(tree.path(file))
    return '<annotations' in text and any(mark in text for mark in ('<image ', '<track ', '<task>', '<project>',
                                                                    '<job>'))


def _recognize(tree: FileTree) -> str | None:
    found = next((file for file in sample(tree.with_suffix('.xml')) if _is_cvat(tree, file)), None)
    if found is None:
        return None
    images = re.findall(r'<image\s[^>]*>', head(tree.path(found)))[:20]
    names = [name for each in images for name in _names(dict(re.findall(r'(\w+)="([^"]*)"', each)))]
    return weigh(f'{found} with <annotations> of CVAT', [find_image(tree, name, found) for name in names])


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'cvat')
    reader = _Reader(collector)
    others = []
    for file in tree.with_suffix('.xml'):
        if not _is_cvat(tree, file):
            others.append(str(file))
            continue
        try:
            root = read_xml(tree.path(file), guess_encoding=True)
            tree.note_encoding(file, root.encoding)
        except ValueError as error:
            collector.found.problems.append(Problem(tree.path(file), *error.args))
            continue
        if root.tag == 'annotations':
            reader.add_file(file, root)
        else:
            others.append(str(file))
    if others:
        collector.found.notes.append(f'{len(others)} XML files with another content are not used: {list_some(others)}')
    return reader.finish()


class _Reader:
    """State over all files: labels, tags of images, counts for the notes."""

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        self.labels: list[str] = []
        self.without_region: set[str] = set()
        self.tags: list[tuple[AnnotatedImage, int, list[str]]] = []
        self.joined = self.attributes = 0

    def add_file(self, file: PurePosixPath, root: Node) -> None:
        """Add the images and tracks of a file."""
        for label in _find_labels(root):
            name = label.value('name')
            if name and label.find('parent') is None:  # others are points of a skeleton
                self.labels.append(name)
                if label.value('type') in (*_WITHOUT_REGION, 'tag'):
                    self.without_region.add(name)
        for node in track(root.children, len(root.children), f'images of {file.name}'):
            if node.tag == 'image':
                self._add_image(file, node)
        tracks = [node for node in root.children if node.tag == 'track']
        if tracks:
            read_tracks(self.collector, file, Tracks(root, tracks), read_shape)

    def _add_image(self, file: PurePosixPath, node: Node) -> None:
        entries = [child for child in node.children if child.tag in _KINDS]
        try:
            stated = to_number(node.attributes.get('width')), to_number(node.attributes.get('height'))
        except ValueError:
            stated = None
        subset = SPLIT_OF.get(node.attributes.get('subset', '').lower())
        to = self.collector.add_image(_names(node.attributes), file, node.line, stated=stated, split=subset,
                                      objects=len(entries))
        if to is None:
            return
        self.tags.append((to, node.line, [child.attributes.get('label', '') for child in node.children
                                          if child.tag == 'tag']))
        parts: dict[Hashable, list[tuple[Node, Shape]]] = {}
        for entry in entries:
            label, group = entry.attributes.get('label', ''), entry.attributes.get('group_id', '0')
            self.attributes += entry.find('attribute') is not None
            try:
                shape = read_shape(entry)
            except ValueError as error:
                self.collector.refuse_object(to, entry.line, f'{label or "an object without a label"}: {error}')
                continue
            is_part = group != '0' and entry.tag in _PARTS  # CVAT's own export to COCO joins these and no boxes
            parts.setdefault((group, label) if is_part else id(entry), []).append((entry, shape))
        for members in parts.values():
            first = members[0][0]
            self.joined += len(members) if len(members) > 1 else 0
            self.collector.add_object(to, first.attributes.get('label', ''), first.line,
                                      [shape for _, shape in members])

    def finish(self) -> SourceSet:
        """Use the tags of images as classes if there are no objects, and add the notes."""
        found = self.collector.found
        self.collector.use_labels(self.tags, 'tags')
        if self.joined:
            found.notes.append(f'{self.joined} polygons and masks share a group_id and a label with others of their '
                               'image: parts of one object')
        if self.attributes:
            found.notes.append(f'{self.attributes} objects have attributes, which are not used')
        occurring = found.count_objects()
        return self.collector.finish([name for name in dict.fromkeys(self.labels)
                                      if name in occurring or name not in self.without_region])


def read_shape(node: Node) -> Shape:
    """Return a shape in pixels.

    Raises:
        ValueError: It is not valid, or of a kind that encloses no region.
    """
    def values(*names: str) -> list[float]:
        if missing := [name for name in names if name not in node.attributes]:
            raise ValueError(f'a {node.tag} without {missing[0]}')
        return [to_number(node.attributes[name]) for name in names]
    degrees = to_number(node.attributes.get('rotation') or 0)
    if node.tag == 'box':
        return shapes.rectangle(*values('xtl', 'ytl', 'xbr', 'ybr'), degrees=degrees)
    if node.tag == 'ellipse':
        return shapes.ellipse(*values('cx', 'cy', 'rx', 'ry'), degrees=degrees)
    if node.tag == 'polygon':
        texts = [point.split(',') for point in node.attributes.get('points', '').split(';') if point.strip()]
        if any(len(point) != 2 for point in texts):
            raise ValueError('a polygon needs points as "x1,y1;x2,y2;..."')
        return shapes.polygon([[to_number(x), to_number(y)] for x, y in texts])
    if node.tag == 'mask':
        left, top, width, height = values('left', 'top', 'width', 'height')
        return shapes.bitmap(_decode_runs(node.attributes.get('rle', ''), round(width), round(height)), left, top)
    raise ValueError(f'a {node.tag} is not converted; draw a polygon or a box in its place')


def _decode_runs(text: str, width: int, height: int) -> np.ndarray:
    """Return the (height, width) mask of run lengths, row by row, of background and object in turn."""
    try:
        counts = [int(count) for count in text.split(',') if count.strip()]
    except ValueError:
        raise ValueError('a mask needs run lengths in rle as "n1, n2, ..."') from None
    is_plausible = min(width, height) > 0 and width * height <= _MOST_PIXELS and min(counts, default=-1) >= 0
    if not is_plausible or sum(counts) != width * height:
        raise ValueError(f'the run lengths of a mask of {width} x {height} sum up to {sum(counts)} in place of '
                         f'{width * height}')
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(height, width)


def _names(attributes: dict[str, str]) -> list[str]:
    """Return names of an image: projects with several subsets have a folder for each of them."""
    name, subset = attributes.get('name', ''), attributes.get('subset', '')
    return [f'{subset}/{name}', name] if subset and name else [name]


def _find_labels(node: Node) -> Sequence[Node]:
    """Return the elements <label> in <meta>, in <task>, <job> or <project>."""
    meta = node.find('meta')
    found: list[Node] = []
    waiting = [meta] if meta else []
    while waiting:
        each = waiting.pop(0)
        if each.tag == 'labels':
            found += [child for child in each.children if child.tag == 'label']
        else:
            waiting += each.children
    return found


FORMAT = Format('cvat', 'an XML file with <annotations> of CVAT 1.1, for images, or for video whose frames are images',
                _recognize, _read)
