"""VGG Image Annotator: JSON exports and csv files of versions 1 and 2, projects of versions 2 and 3."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import Collector, find_image
from vitdet_plugin.datasets.formats.files import find_json, head, load_json, load_text, read_all_json, sample, weigh
from vitdet_plugin.datasets.formats.shapes import Shape, to_number
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.formats.via3 import as_version_2, is_version_3
from vitdet_plugin.datasets.formats.via_names import ClassNames, choose_names
from vitdet_plugin.utils.track import track

_COLUMNS = ('filename', 'region_shape_attributes', 'region_attributes')


class _Region(NamedTuple):
    number: int  # of the region in its image, or line of a csv file
    shape: Any
    attributes: dict


class _Entry(NamedTuple):
    file: PurePosixPath
    line: int | None
    name: str
    attributes: dict
    regions: list[_Region]


def _entries_of(content: Any) -> dict | None:
    """Return the images of a JSON file by their keys, or None if it is not of VIA."""
    if not isinstance(content, dict):
        return None
    if is_version_3(content):
        content = as_version_2(content)
    if isinstance(content.get('_via_img_metadata'), dict):
        return content['_via_img_metadata']
    fitting = sum(isinstance(each, dict) and 'filename' in each and 'regions' in each for each in content.values())
    return content if 2 * fitting > len(content) else None


def _is_via(content: Any) -> bool:
    return _entries_of(content) is not None


def _csv_files(tree: FileTree) -> list[PurePosixPath]:
    return [file for file in tree.with_suffix('.csv') if 'region_shape_attributes' in head(tree.path(file), 4096)]


def _recognize(tree: FileTree) -> str | None:
    marks = ('"regions"', '"_via_', '"fid"')
    if found := next((files for mark in marks if (files := find_json(tree, _is_via, mark))), None):
        entries = [each for each in (_entries_of(load_json(tree, found[0])) or {}).values() if isinstance(each, dict)]
        return weigh(f'{found[0]} with "regions" of images of VIA',
                     [find_image(tree, str(each.get('filename')), found[0]) for each in entries[:20]])
    if any(file in set(_csv_files(tree)) for file in sample(tree.with_suffix('.csv'))):
        found = _csv_files(tree)
        names = [entry.name for entry in _csv_entries(Collector(tree, 'via'), found[0])[:20]]
        return weigh(f'{found[0]} with the columns {", ".join(_COLUMNS)} of VIA',
                     [find_image(tree, name, found[0]) for name in names])
    return None


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'via')
    entries: list[_Entry] = []
    options: dict[str, dict] = {}
    if tree.with_suffix('.json'):
        for file, content in read_all_json(tree, collector.found, _is_via):
            entries += _json_entries(collector, file, content)
            stated = (as_version_2(content) if is_version_3(content) else content).get('_via_attributes')
            if isinstance(stated, dict) and isinstance(stated.get('region'), dict):
                options |= {name: each['options'] for name, each in stated['region'].items()
                            if isinstance(each, dict) and isinstance(each.get('options'), dict)}
    in_json = bool(entries)
    for file in _csv_files(tree):
        entries += _csv_entries(collector, file)
    if not in_json and (others := [str(file) for file in tree.with_suffix('.csv') if file not in _csv_files(tree)]):
        collector.found.notes.append(f'{len(others)} csv files with other columns are not used: {list_some(others)}')
    regions = [region.attributes for entry in entries for region in entry.regions]
    if regions:
        names = choose_names(regions, options)
        collector.found.notes += names.notes
        for entry in track(entries, len(entries), 'images'):
            _add_entry(collector, entry, names)
        return collector.finish(names.classes)
    labels = choose_names([entry.attributes for entry in entries], {}, 'image')
    collector.found.notes += labels.notes
    for entry in entries:
        _add_label(collector, entry, labels)
    return collector.finish()


def _json_entries(collector: Collector, file: PurePosixPath, content: dict) -> Iterator[_Entry]:
    for number, (key, entry) in enumerate((_entries_of(content) or {}).items(), 1):
        try:
            regions = entry['regions']
            listed = list(regions.values()) if isinstance(regions, dict) else regions
            if not isinstance(listed, list) or not isinstance(entry.get('filename'), str):
                raise TypeError
            found = [_Region(i, each.get('shape_attributes'), _as_dict(each.get('region_attributes')))
                     for i, each in enumerate(map(_as_dict, listed), 1)]
        except (TypeError, KeyError, AttributeError):
            collector.problem(collector.tree.path(file), number, f'{key}: not an image with regions of VIA')
            continue
        yield _Entry(file, number, entry['filename'], _as_dict(entry.get('file_attributes')), found)


def _csv_entries(collector: Collector, file: PurePosixPath) -> list[_Entry]:
    """Return the images of a csv file, each with the regions of all its rows; faults become problems."""
    path = collector.tree.path(file)
    found: dict[str, _Entry] = {}
    limit = csv.field_size_limit(2**31 - 1)  # a cell contains all points of a polygon
    try:
        rows = csv.reader(io.StringIO(load_text(collector.tree, file)), skipinitialspace=True)
        header = [name.strip().lstrip('#').strip() for name in next(rows)]
        if missing := [name for name in _COLUMNS if name not in header]:
            raise ValueError(1, f'no column {missing[0]}')
        for row in rows:
            line = rows.line_num
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                collector.problem(path, line, f'{len(row)} cells, but the header has {len(header)}')
                continue
            cells = dict(zip(header, row))
            try:
                shape, attributes, of_file = (
                    json.loads(cells.get(name) or '{}') for name in (*_COLUMNS[1:], 'file_attributes'))
            except ValueError as error:
                collector.problem(path, line, f'{cells["filename"]}: a cell is not valid JSON: {error}')
                continue
            entry = found.setdefault(cells['filename'], _Entry(file, line, cells['filename'], _as_dict(of_file), []))
            if shape:  # an image without regions has one row with an empty shape
                entry.regions.append(_Region(line, shape, _as_dict(attributes)))
    except csv.Error as error:
        collector.problem(path, rows.line_num, f'not a csv file: {error}')
    except ValueError as error:
        collector.found.problems.append(Problem(path, *error.args))
    finally:
        csv.field_size_limit(limit)
    return list(found.values())


def _add_entry(collector: Collector, entry: _Entry, names: ClassNames) -> None:
    """Add an image with its regions."""
    to = collector.add_image([entry.name], entry.file, entry.line, objects=len(entry.regions))
    for region in entry.regions if to is not None else ():
        # in csv files the line identifies the region, in JSON files the image does too
        where = '' if entry.file.suffix.lower() == '.csv' else f'{entry.name}, region {region.number}: '
        number = region.number if not where else entry.line
        try:
            name = names.name_of(region.attributes)
            collector.add_object(to, name, number, [_shape(region.shape)])
        except ValueError as error:
            collector.refuse_object(to, number, f'{where}{error}')


def _add_label(collector: Collector, entry: _Entry, labels: ClassNames) -> None:
    """Add an image without regions, with its class if the attributes of the files state one."""
    if (to := collector.add_image([entry.name], entry.file, entry.line)) is None or not labels.attribute:
        return
    try:
        to.image.label = labels.name_of(entry.attributes)
    except ValueError as error:
        collector.drop(to.image)
        collector.refuse_object(to, entry.line, f'{entry.name}: {error}')


def _shape(content: Any) -> Shape:
    """Return a shape in pixels.

    Raises:
        ValueError: It is not valid, or of a kind that encloses no region.
    """
    kind = content.get('name') if isinstance(content, dict) else None

    def values(*keys: str) -> list[float]:
        if missing := [key for key in keys if key not in content]:
            raise ValueError(f'a {kind} without {missing[0]}')
        return [to_number(content[key]) for key in keys]
    if kind == 'rect':
        x, y, width, height = values('x', 'y', 'width', 'height')
        return shapes.rectangle(x, y, x + width, y + height)
    if kind == 'circle':
        x, y, radius = values('cx', 'cy', 'r')
        return shapes.ellipse(x, y, radius, radius)
    if kind == 'ellipse':
        x, y, x_radius, y_radius = values('cx', 'cy', 'rx', 'ry')
        return shapes.ellipse(x, y, x_radius, y_radius, math.degrees(to_number(content.get('theta') or 0)))
    if kind == 'polygon':
        xs, ys = content.get('all_points_x'), content.get('all_points_y')
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ValueError('a polygon needs all_points_x and all_points_y of the same length')
        return shapes.polygon([[to_number(x), to_number(y)] for x, y in zip(xs, ys)])
    if kind is None:
        raise ValueError('a region without the name of its shape')
    raise ValueError(f'a {kind} is not converted; draw a polygon or a rect in its place')


def _as_dict(content: Any) -> dict:
    return content if isinstance(content, dict) else {}


FORMAT = Format('via', 'a JSON or csv file of VIA (VGG Image Annotator) 1 or 2 with regions of images, or a project '
                'of 2 or 3', _recognize, _read)
