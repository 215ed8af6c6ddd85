"""COCO annotation files: open and validate one, and read the fields of its entries.

Conversions, checks, statistics and data sets all read COCO files through this module, so that they agree on what is
valid. :func:`read_coco` validates the structure of the file. The other functions read one entry each and return None
for an invalid value; the caller decides whether that is an error, a finding or an entry to skip.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vitdet_plugin.coco.content import category_name, parse_flag
from vitdet_plugin.coco.json_stream import read_list
from vitdet_plugin.datasets.image_files import list_folders
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import read_class_names
from vitdet_plugin.utils.text import is_unicode
from vitdet_plugin.utils.text_files import describe_encoding

# keys of images of LVIS: categories that are known to be absent, and those of which only some objects are annotated
ABSENT, PARTLY = 'neg_category_ids', 'not_exhaustive_category_ids'
_ANNOTATION_FOLDERS = ('ann', 'label', 'json')  # begins of their names
_EXAMINED = 20  # images that are searched in a folder
MAX_PIXELS = 1e6  # largest plausible coordinate or side of an image


def read_coco(path: str | Path, needs_annotations: bool = True, is_partial: bool = False) -> dict:
    """Read a COCO file and validate its structure.

    Args:
        path: JSON file.
        needs_annotations: Whether a file without the key ``annotations`` is an error, as for conversions; files of
            test sets have none.
        is_partial: Decode only the lists of images and categories, for a quick look at a large file.

    Returns:
        Its content. ``images`` and ``categories`` are non-empty lists of dicts. ``annotations`` is a list of unchecked
        entries, empty if the file has none; it is absent with ``is_partial``.

    Raises:
        UserError: The file does not exist, is not JSON (with line and column), or is not COCO.
    """
    content = (_read_parts(path) if is_partial else None) or _decode(path, _read_text(path))
    for key in ('images', 'categories'):
        _check_list(content, key, path)
    if is_partial:
        return content
    if 'annotations' not in content and not needs_annotations:
        content['annotations'] = []
    if not isinstance(content.get('annotations'), list):
        raise UserError(f"{path}: not a COCO file: it needs a list 'annotations'")
    return content


def classes_of_file(path: str | Path) -> list[str]:
    """Read class names: the categories of a COCO file, in the order of the file, or a text file, one name per line.

    Raises:
        UserError: The file does not exist, is neither, or holds no names.
    """
    if not Path(path).is_file():
        raise UserError(f'{path} does not exist; give a text file of class names or an annotation file')
    if Path(path).suffix.lower() != '.json':
        return read_class_names(path)
    content = _read_parts(path) or _decode(path, _read_text(path))
    _check_list(content, 'categories', path)
    return require_class_names(content['categories'], path)


def index_by_id(entries: Sequence[dict], what: str) -> tuple[dict[int | str, dict], list[tuple[str, str]]]:
    """Map the ids of images or categories to their entries, in the order of the file.

    Args:
        entries: Images or categories.
        what: 'image' or 'category', for the faults.

    Returns:
        The map, and ``(kind, where)`` of every entry that is not in it: no valid id, or an id that occurred before.
    """
    index: dict[int | str, dict] = {}
    faults = []
    for number, entry in enumerate(entries):
        key = entry.get('id')
        if not is_id(key):
            faults.append((f'{what} entries without an id', f'number {number}'))
        elif key in index:
            faults.append((f'{what} ids that occur twice', f'{what} {key}'))
        else:
            index[key] = entry
    return index, faults


def require_index(entries: Sequence[dict], what: str, path: str | Path) -> dict[int | str, dict]:
    """Map ids to entries as :func:`index_by_id` does, for callers that need all of them.

    Raises:
        UserError: An entry has no valid id, or an id occurs twice.
    """
    index, faults = index_by_id(entries, what)
    if faults:
        kind, where = faults[0]
        raise UserError(f"{path}: {kind}: {where}; 'vitdet check' lists every problem of the file")
    return index


def require_class_names(categories: Sequence[dict], path: str | Path) -> list[str]:
    """Return the names of the categories in the order of the file.

    Raises:
        UserError: A category has no name, or one that is not valid Unicode text.
    """
    names = []
    for number, category in enumerate(categories):
        name = category_name(category)
        if name is None:
            raise UserError(f'{path}: categories without a name: number {number}; add "name" to the entry')
        if not is_unicode(name):
            raise UserError(f'{path}: category {number}: the name {name!a} is not valid Unicode text; correct it')
        names.append(name)
    return names


def image_file_name(image: dict) -> str | None:
    """Return the path of an image below the image folder, or None if the entry has no valid one.

    LVIS has no ``file_name``; the last two parts of ``coco_url`` are used: ``train2017/000000000001.jpg``.
    """
    key = 'file_name' if 'file_name' in image else 'coco_url'
    name = image.get(key)
    if not isinstance(name, str) or not name or '\0' in name:
        return None
    return name if key == 'file_name' else '/'.join(name.split('/')[-2:])


def find_image_folder(images: Sequence[dict], path: str | Path) -> Path | None:
    """Return the folder that holds one of the first images of a COCO file, or None.

    Args:
        images: Images of the file.
        path: The file; its folder, the folders in it, and those next to it are searched. Of the latter all if its
            folder is one of annotations, otherwise only ``images`` and that of the file's name.
    """
    names = [name.replace('\\', '/') for name in map(image_file_name, images[:_EXAMINED])
             if name and not leaves_folder(name)]
    root = Path(path).absolute().parent
    folders = [root, root / 'images', root.parent / 'images', root.parent, root.parent / Path(path).stem]
    parents = (root, root.parent) if root.name.lower().startswith(_ANNOTATION_FOLDERS) else (root,)
    folders += [child for parent in parents for child in list_folders(parent)]
    return next((folder for folder in folders if any((folder / name).is_file() for name in names)), None)


def leaves_folder(name: str) -> bool:
    """Whether a file name points outside the image folder: an absolute path, or too many ``..``."""
    if os.path.isabs(name) or '\\' in name and ':' in name:
        return True
    depth = 0
    for part in PurePosixPath(name).parts:
        depth += -1 if part == '..' else 1
        if depth < 0:
            return True
    return False


def image_size(image: dict) -> tuple[float, float] | None:
    """Return the annotated (width, height) of an image in pixels, or None if one is missing or not plausible."""
    size = image.get('width'), image.get('height')
    return size if all(is_number(side) and 1 <= side <= MAX_PIXELS for side in size) else None


def annotation_box(annotation: dict) -> tuple[float, float, float, float] | None:
    """Return the box of an annotation as (x, y, width, height) in pixels, or None if it is not four finite numbers."""
    box = annotation.get('bbox')
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(is_number(value) for value in box):
        return None
    return tuple(box)


def is_crowd(annotation: dict) -> bool:
    """Whether an annotation is a region of many objects, which is not trained on; also if its flag is not valid."""
    return parse_flag(annotation.get('iscrowd')) != 0


def find_bad_reference(annotation: Any, images: dict, categories: dict) -> str | None:
    """Return why an annotation belongs to no image or no category of the file, or None if it does.

    Args:
        annotation: Entry of ``annotations``.
        images: Images by id.
        categories: Categories by id.
    """
    if not isinstance(annotation, dict):
        return f'expected an object, found {type(annotation).__name__}'
    for key, known in (('image_id', images), ('category_id', categories)):
        value = annotation.get(key)
        if not is_id(value) or value not in known:
            return f'{key} {value} is not in the file'
    return None


def describe_annotation(annotation: Any, number: int) -> str:
    """Return the name of an annotation for messages: its id or, without one, its position in the list."""
    key = annotation.get('id') if isinstance(annotation, dict) else None
    return f'annotation {key}' if is_id(key) else f'annotation number {number}'


def is_id(key: Any) -> bool:
    """Whether a value can be an id: an integer or a text."""
    return isinstance(key, (int, str)) and not isinstance(key, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # integers in JSON have no limit
        return False


def _check_list(content: dict, key: str, path: str | Path) -> None:
    if not isinstance(content.get(key), list) or not all(isinstance(each, dict) for each in content[key]):
        raise UserError(f'{path}: not a COCO file: it needs a list {key!r} of objects')
    if not content[key]:
        raise UserError(f'{path}: the list {key!r} is empty')


def _read_parts(path: str | Path) -> dict | None:
    """Read the lists of images and categories without holding the text; None where that explains what is wrong."""
    try:
        with open(path, 'rb') as file:
            file.seek(max(0, os.path.getsize(path) - 64))
            if not file.read().rstrip().endswith(b'}'):
                return None
        found = {key: read_list(path, key) for key in ('images', 'categories')}
    except (OSError, ValueError, RecursionError):
        return None
    return {key: each[1] for key, each in found.items() if each} if all(found.values()) else None


def _read_text(path: str | Path) -> str:
    try:
        text = Path(path).read_text(encoding='utf-8-sig')
    except FileNotFoundError:
        raise UserError(f'{path} does not exist; give a COCO annotation file (.json)') from None
    except UnicodeDecodeError:
        raise UserError(f'{path}: not valid JSON: {describe_encoding(Path(path).read_bytes())}') from None
    except IsADirectoryError:
        raise UserError(f'{path}: is a folder; give a COCO annotation file (.json){_files_in(path)}') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); give a COCO annotation file (.json)') from None
    if not text.strip():
        raise UserError(f'{path}: the file is empty')
    return text


def _files_in(folder: str | Path) -> str:
    names = sorted(each.name for each in Path(folder).iterdir() if each.suffix == '.json')
    return f'; it holds {", ".join(names[:5])}' if names else ''


def _decode(path: str | Path, text: str) -> dict:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if fault := describe_encoding(Path(path).read_bytes()):
            raise UserError(f'{path}: not valid JSON: {fault}') from None
        if error.msg != 'Extra data' and text.lstrip().startswith('{') and not text.rstrip().endswith('}'):
            raise UserError(f'{path}: not valid JSON: the file ends in the middle; download or copy it again') from None
        hint = '' if str(path).endswith('.json') else '; give a COCO annotation file (.json)'
        raise UserError(f'{path}: not valid JSON: {error.msg} at line {error.lineno}, column '
                        f'{error.colno}{hint}') from None
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, or deeply nested lists
        raise UserError(f'{path}: not valid JSON: {str(error).splitlines()[0]}') from None
    if not isinstance(content, dict):
        raise UserError(f'{path}: not a COCO file: expected an object with images, annotations and categories, found a '
                        f'{type(content).__name__}')
    return content
