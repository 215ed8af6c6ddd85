"""Faults inside a COCO annotation file: those that would stop a training, and those that mmdet skips silently."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vitdet_plugin.datasets.coco import (
    MAX_PIXELS,
    annotation_box,
    image_file_name,
    image_size,
    index_by_id,
    is_crowd,
    is_id,
    is_number,
)

MOST_DROPPED = 0.01  # share of the annotations; more than that is an error
NO_MASK = 'annotations without a mask (they stop a training with masks)'
_SHOWN = 3
_LEVELS = ('error', 'drop', 'note')


@dataclass
class AnnotationFault:
    """One kind of fault in a file.

    Attributes:
        level: 'error' (a training would stop or learn wrong labels), 'drop' (mmdet skips the annotation), 'note'.
        kind: What is wrong.
        where: The images or annotations concerned, by id.
    """

    level: str
    kind: str
    where: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = f' and {len(self.where) - _SHOWN} more' if len(self.where) > _SHOWN else ''
        return f'{self.kind}: {", ".join(self.where[:_SHOWN])}{more}'


class _Faults(dict):
    """Faults by level and kind."""

    def add(self, level: str, kind: str, where: str) -> None:
        self.setdefault((level, kind), AnnotationFault(level, kind)).where.append(where)


def check_annotations(content: dict) -> list[AnnotationFault]:
    """Check every image, annotation and category of a COCO file.

    The rules for 'drop' are those by which mmdet's ``CocoDataset`` skips annotations: no overlap with the image, a side
    below one pixel, no area, an unknown category or image, ``ignore``.

    Args:
        content: From :func:`vitdet_plugin.datasets.coco.read_coco`.

    Returns:
        Faults, errors first.
    """
    faults = _Faults()
    indices = []
    for what, entries in (('category', content['categories']), ('image', content['images'])):
        index, problems = index_by_id(entries, what)
        indices.append(index)
        for kind, where in problems:
            faults.add('error', kind, where)
    categories, images = indices
    for number, category in enumerate(content['categories']):
        if not isinstance(category.get('name'), str):
            faults.add('error', 'categories without a name', f'number {number}')
    for key, image in images.items():
        for kind in _image_faults(image):
            faults.add('error', kind, f'image {key}')
    crowds = _check_each_annotation(content['annotations'], images, categories, faults)
    for key in images:
        if key not in crowds:
            faults.add('note', 'images without usable annotations', f'image {key}')
        elif all(crowds[key]):
            faults.add('note', 'images with crowd regions only', f'image {key}')
    return sorted(faults.values(), key=lambda fault: _LEVELS.index(fault.level))


def dropped_share(faults: list[AnnotationFault], annotations: int) -> tuple[int, float]:
    """Return the number and share of the ``annotations`` that mmdet would skip."""
    count = sum(len(fault.where) for fault in faults if fault.level == 'drop')
    return count, count / max(1, annotations)


def _check_each_annotation(annotations: list, images: dict, categories: dict, faults: _Faults) -> dict[Any, list[bool]]:
    """Add the faults of all annotations; return for each image whether its usable annotations are crowds."""
    ids: set = set()
    crowds: dict[Any, list[bool]] = {}
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            faults.add('error', 'annotations that are not objects', f'number {number}')
            continue
        where = f'annotation {annotation.get("id", f"number {number}")} of image {annotation.get("image_id", "?")}'
        key = annotation.get('id')
        if not is_id(key):
            faults.add('error', 'annotations without an id', where)
        elif key in ids:
            faults.add('error', 'annotation ids that occur twice (pycocotools keeps one of them)', where)
        else:
            ids.add(key)
        fault = _annotation_fault(annotation, images, categories)
        if fault:
            faults.add(*fault, where)
            continue
        if not annotation.get('segmentation'):
            faults.add('note', NO_MASK, where)
        crowds.setdefault(annotation['image_id'], []).append(is_crowd(annotation))
    return crowds


def _image_faults(image: dict) -> Iterator[str]:
    if image_file_name(image) is None:
        yield 'images without a file_name'
    if image_size(image) is None:
        yield 'images without a width and height in pixels'


def _annotation_fault(annotation: dict, images: dict, categories: dict) -> tuple[str, str] | None:
    """Level and kind of the first fault of an annotation, or None."""
    box, area = annotation.get('bbox'), annotation.get('area')
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return 'error', 'annotations without a bbox [x, y, width, height]'
    if annotation_box(annotation) is None:
        return 'error', 'boxes with values that are NaN, infinite or not numbers'
    if max(abs(value) for value in box) > MAX_PIXELS:
        return 'error', f'boxes with values above {MAX_PIXELS:.0f} pixels'
    if not is_number(area):
        return 'error', 'annotations without an area that is a number'
    mask_fault = _mask_fault(annotation.get('segmentation'))
    if mask_fault:
        return 'error', mask_fault
    image_id, category = annotation.get('image_id'), annotation.get('category_id')
    if not is_id(image_id) or not is_id(category):
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
        return 'drop', 'boxes or areas that are empty, or sides below one pixel'
    size = image_size(images[image_id])
    if size is not None:
        inside = [min(box[axis] + box[axis + 2], size[axis]) - max(box[axis], 0) for axis in (0, 1)]
        if min(inside) <= 0:
            return 'drop', 'boxes outside their image'
    return None


def _mask_fault(mask: Any) -> str | None:
    """Return the fault of a mask, or None. Polygons that are too short are not a fault, since mmdet ignores them."""
    if not mask:
        return None
    if isinstance(mask, list):
        if not all(isinstance(polygon, list) and all(is_number(value) for value in polygon) for polygon in mask):
            return 'masks that are not lists of polygons of numbers'
        return None
    if isinstance(mask, dict):
        size, counts = mask.get('size'), mask.get('counts')
        if not (isinstance(size, list) and len(size) == 2 and all(is_number(side) and side >= 1 for side in size)):
            return 'RLE masks without a size'
        if isinstance(counts, list) and all(is_number(count) and count >= 0 for count in counts):
            return None if sum(counts) == size[0] * size[1] else 'RLE masks whose counts do not fill their size'
        return None if isinstance(counts, str) else 'RLE masks without counts'
    return 'masks that are neither polygons nor RLE'
