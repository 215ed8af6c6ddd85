"""Projects of VIA 3 in the form of those of VIA 2."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

# the first number of "xy" -> name of the shape in VIA 2
_SHAPES = {1: 'point', 2: 'rect', 3: 'circle', 4: 'ellipse', 5: 'line', 6: 'polyline', 7: 'polygon', 8: 'polygon'}
_KEYS = {'rect': ('x', 'y', 'width', 'height'), 'circle': ('cx', 'cy', 'r'), 'ellipse': ('cx', 'cy', 'rx', 'ry')}


def is_version_3(content: Any) -> bool:
    """Whether the content of a JSON file is a project of VIA 3."""
    return isinstance(content, dict) and all(isinstance(content.get(key), dict) for key in ('file', 'view', 'metadata'))


def as_version_2(content: dict) -> dict:
    """Return a project of VIA 3 as one of VIA 2; an entry of another form becomes a region or image without a name."""
    attributes = _dicts(content.get('attribute'))
    names = {key: str(each.get('aname') or key) for key, each in attributes.items()}
    options = {key: each['options'] for key, each in attributes.items() if isinstance(each.get('options'), dict)}
    regions = defaultdict(list)
    of_files: dict[str, dict] = {}
    for entry in _dicts(content['metadata']).values():
        view = str(entry.get('vid'))
        values = entry['av'] if isinstance(entry.get('av'), dict) else {}
        stated = {names.get(key, key): _text(value, options.get(key)) for key, value in values.items()}
        if entry.get('xy') or entry.get('z'):
            regions[view].append(dict(shape_attributes=_shape(entry), region_attributes=stated))
        else:  # of the whole image
            of_files.setdefault(view, {}).update(stated)
    images = {}
    for view, entry in _dicts(content['view']).items():
        listed = entry['fid_list'] if isinstance(entry.get('fid_list'), list) else [view]
        for file in listed:
            found = _dicts(content['file']).get(str(file), {})
            images[f'file {file}'] = dict(filename=found.get('fname') or found.get('src'), regions=regions[view],
                                          file_attributes=of_files.get(view, {}))
    texts = {names[key]: dict(options={str(text): str(text) for text in each.values()})
             for key, each in options.items()}
    return {'_via_img_metadata': images, '_via_attributes': dict(region=texts)}


def _text(value: Any, options: dict | None) -> Any:
    """Return the text of an option, or several as VIA 2 writes check boxes."""
    if options is None or not isinstance(value, str):
        return value
    found = [str(options.get(key, key)) for key in value.split(',') if key]
    return found[0] if len(found) == 1 else dict.fromkeys(found, True)


def _dicts(content: Any) -> dict[str, dict]:
    items = content.items() if isinstance(content, dict) else ()
    return {str(key): value for key, value in items if isinstance(value, dict)}


def _shape(entry: dict) -> dict:
    numbers = entry.get('xy')
    if entry.get('z'):
        return dict(name='segment of a video')
    if not isinstance(numbers, list) or not numbers or not isinstance(numbers[0], int):
        return {}
    name, values = _SHAPES.get(numbers[0], f'shape of kind {numbers[0]}'), numbers[1:]
    if name == 'polygon':
        return dict(name=name, all_points_x=values[0::2], all_points_y=values[1::2])
    return dict(name=name, **dict(zip(_KEYS.get(name, ()), values)))
