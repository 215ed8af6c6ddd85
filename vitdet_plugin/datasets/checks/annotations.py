"""What is wrong inside a COCO annotation file: what would stop a training, and what mmdet drops without a word."""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

MOST_DROPPED = 0.01  # share of the annotations; more than that is an error
NO_MASK = 'annotations without a mask (they stop a training of masks)'
_SHOWN = 3
_LARGEST = 1e6  # pixels


@dataclass
class Problem:
    """One kind of fault in a file.

    Attributes:
        level: 'error' (a training would stop or learn nonsense), 'drop' (mmdet leaves the annotation out), 'note'.
        kind: what is wrong.
        where: ids of the images or annotations concerned.
    """

    level: str
    kind: str
    where: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = f' and {len(self.where) - _SHOWN} more' if len(self.where) > _SHOWN else ''
        return f'{self.kind}: {", ".join(self.where[:_SHOWN])}{more}'


def check_annotations(content: dict) -> list[Problem]:
    """Look at every image, annotation and category of a parsed COCO file, errors first.

    The rules for 'drop' are those by which mmdet's ``CocoDataset`` skips annotations: no overlap with the image, a side
    under one pixel, no area, an unknown category or image, ``ignore``.
    """
    found: dict[tuple[str, str], Problem] = {}

    def add(level: str, kind: str, where: str) -> None:
        found.setdefault((level, kind), Problem(level, kind)).where.append(where)

    annotations = content.get('annotations', [])
    if not isinstance(annotations, list):
        return [Problem('error', "'annotations' is no list", [type(annotations).__name__])]
    categories = _index(content['categories'], 'category', add)
    images = _index(content['images'], 'image', add)
    for key, image in images.items():
        for fault in _image_faults(image):
            add('error', fault, f'image {key}')
    ids: set = set()
    with_objects: dict[Any, list[bool]] = {}
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            add('error', 'annotations that are no objects', f'number {number}')
            continue
        where = f'annotation {annotation.get("id", f"number {number}")} of image {annotation.get("image_id", "?")}'
        key = annotation.get('id')
        if not _is_id(key):
            add('error', 'annotations without an id', where)
        elif key in ids:
            add('error', 'annotation ids that occur twice (pycocotools keeps one of them)', where)
        else:
            ids.add(key)
        fault = _annotation_fault(annotation, images, categories)
        if fault:
            add(*fault, where)
        else:
            if not annotation.get('segmentation'):
                add('note', NO_MASK, where)
            with_objects.setdefault(annotation['image_id'], []).append(bool(annotation.get('iscrowd')))
    for key in images:
        if key not in with_objects:
            add('note', 'images without usable annotations', f'image {key}')
        elif all(with_objects[key]):
            add('note', 'images with crowd regions only', f'image {key}')
    order = ('error', 'drop', 'note')
    return sorted(found.values(), key=lambda problem: order.index(problem.level))


def dropped_share(problems: list[Problem], annotations: int) -> tuple[int, float]:
    """Number and share of the annotations that would be left out."""
    count = sum(len(problem.where) for problem in problems if problem.level == 'drop')
    return count, count / max(1, annotations)


def _index(entries: list, what: str, add) -> dict:
    index: dict = {}
    for number, entry in enumerate(entries):
        key = entry.get('id')
        if not _is_id(key):
            add('error', f'{what} entries without an id', f'number {number}')
        elif key in index:
            add('error', f'{what} ids that occur twice', f'{what} {key}')
        else:
            index[key] = entry
        if what == 'category' and not isinstance(entry.get('name'), str):
            add('error', 'categories without a name', f'number {number}')
    return index


def _is_id(key: Any) -> bool:
    return isinstance(key, (int, str)) and not isinstance(key, bool) and isinstance(key, Hashable)


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # JSON's integers have no limit
        return False


def _image_faults(image: dict) -> Iterator[str]:
    if not isinstance(image.get('file_name', image.get('coco_url')), str):
        yield 'images without a file_name'
    if not all(_is_number(image.get(side)) and 1 <= image[side] <= _LARGEST for side in ('width', 'height')):
        yield 'images without a width and height in pixels'


def _annotation_fault(annotation: dict, images: dict, categories: dict) -> tuple[str, str] | None:
    """(level, kind) of the first thing that is wrong with an annotation, or None."""
    box, area = annotation.get('bbox'), annotation.get('area')
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return 'error', 'annotations without a bbox [x, y, width, height]'
    if not all(_is_number(value) for value in box):
        return 'error', 'boxes with NaN, infinite or other values that are no numbers'
    if max(abs(value) for value in box) > _LARGEST:
        return 'error', f'boxes with values above {_LARGEST:.0f} pixels'
    if not _is_number(area):
        return 'error', 'annotations without an area that is a number'
    mask_fault = _mask_fault(annotation.get('segmentation'))
    if mask_fault:
        return 'error', mask_fault
    image_id, category = annotation.get('image_id'), annotation.get('category_id')
    if not _is_id(image_id) or not _is_id(category):
        return 'error', 'annotations without an image_id and a category_id'
    if image_id not in images:
        return 'drop', 'annotations of images that the file does not list'
    if category not in categories:
        return 'drop', 'annotations of categories that the file does not list'
    if annotation.get('ignore'):
        return 'drop', 'annotations marked "ignore"'
    if box[2] < 0 or box[3] < 0:
        return 'drop', 'boxes of negative width or height'
    if box[2] < 1 or box[3] < 1 or area <= 0:
        return 'drop', 'boxes or areas that are empty, or sides under one pixel'
    image = images[image_id]
    if not list(_image_faults(image)):
        inside = [min(box[axis] + box[axis + 2], image[side]) - max(box[axis], 0)
                  for axis, side in ((0, 'width'), (1, 'height'))]
        if min(inside) <= 0:
            return 'drop', 'boxes outside their image'
    return None


def _mask_fault(mask: Any) -> str | None:
    """Polygons that are too short are ignored by mmdet as a region without a mask; anything else has to be sound."""
    if not mask:
        return None
    if isinstance(mask, list):
        if not all(isinstance(polygon, list) and all(_is_number(value) for value in polygon) for polygon in mask):
            return 'masks that are no lists of polygons of numbers'
        return None
    if isinstance(mask, dict):
        size, counts = mask.get('size'), mask.get('counts')
        if not (isinstance(size, list) and len(size) == 2 and all(_is_number(side) and side >= 1 for side in size)):
            return 'RLE masks without a size'
        if isinstance(counts, list) and all(_is_number(count) and count >= 0 for count in counts):
            return None if sum(counts) == size[0] * size[1] else 'RLE masks whose counts do not fill their size'
        return None if isinstance(counts, str) else 'RLE masks without counts'
    return 'masks that are neither polygons nor RLE'
