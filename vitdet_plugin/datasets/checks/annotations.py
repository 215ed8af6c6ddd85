"""Faults inside a COCO annotation file: those that would stop a training, and those that mmdet skips silently."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vitdet_plugin.coco.content import LOST_MASK, annotation_label, category_name, prepare_coco
from vitdet_plugin.coco.masks import run_lengths
from vitdet_plugin.datasets.checks.box_format import find_misplaced_masks, find_other_format
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
from vitdet_plugin.utils.text import is_unicode

MOST_DROPPED = 0.01  # share of the annotations; more than that is an error
NO_MASK = 'annotations without a mask (ignored by a training with masks)'
_MANY_CROWDS = 0.1  # share of the usable annotations; COCO has 0.012
_NEEDS_MASKS = (NO_MASK, LOST_MASK)
_SHOWN = 3
_LEVELS = ('error', 'empty', 'drop', 'warning', 'note')


@dataclass
class AnnotationFault:
    """One kind of fault in a file.

    Attributes:
        level: 'error' (a training would stop or learn wrong labels), 'empty' (no object is left), 'drop'
            (mmdet skips the annotation), 'warning', 'note'.
        kind: What is wrong.
        where: The images or annotations concerned, by id.
        needs_masks: Whether it concerns only trainings with masks.
    """

    level: str
    kind: str
    where: list[str] = field(default_factory=list)
    needs_masks: bool = False

    def __str__(self) -> str:
        if not self.where:
            return self.kind
        more = f' and {len(self.where) - _SHOWN} more' if len(self.where) > _SHOWN else ''
        return f'{self.kind}: {", ".join(self.where[:_SHOWN])}{more}'


class _Faults(dict):
    """Faults by level and kind."""

    def add(self, level: str, kind: str, where: str) -> None:
        if (level, kind) not in self:
            self[level, kind] = AnnotationFault(level, kind, needs_masks=kind in _NEEDS_MASKS)
        self[level, kind].where.append(where)


def check_annotations(content: dict) -> list[AnnotationFault]:
    """Check every image, annotation and category of a COCO file, after the conversions that training makes as well.

    The rules for 'drop' are those by which mmdet's ``CocoDataset`` skips annotations: no overlap with the image, a side
    below one pixel, an unknown category or image, ``ignore``.

    Args:
        content: From :func:`vitdet_plugin.datasets.coco.read_coco`.

    Returns:
        Faults, errors first.
    """
    prepared = prepare_coco(content)
    faults = _Faults()
    for change in prepared.changes:
        if change.kind != LOST_MASK:  # reported below, unless mmdet skips the annotation for another reason
            faults.add(*change)
    indices = []
    for what, key in (('category', 'categories'), ('image', 'images')):
        index, problems = index_by_id(prepared.content[key], what)
        indices.append(index)
        for kind, where in problems:
            faults.add('error', kind, where)
    categories, images = indices
    for number, category in enumerate(prepared.content['categories']):
        if (name := category_name(category)) is None:
            faults.add('error', 'categories without a name', f'number {number}')
        elif not is_unicode(name):
            faults.add('error', 'categories whose name is not valid Unicode text', f'number {number}: {name!a}')
    for key, image in images.items():
        for kind in _image_faults(image):
            faults.add('error', kind, f'image {key}')
    _check_ids(content['annotations'], faults)
    usable = _check_each_annotation(content['annotations'], prepared.content['annotations'], images, categories, faults)
    if found := find_other_format(prepared.content['annotations'], images):
        faults.add('error', f'bbox looks like {found[0]}; COCO uses x, y, width, height in pixels', found[1])
    elif misplaced := find_misplaced_masks(prepared.content['annotations'], images):
        faults.add(*misplaced)
    _check_objects(usable, len(content['annotations']), images, faults)
    return sorted(faults.values(), key=lambda fault: _LEVELS.index(fault.level))


def has_masks(content: dict) -> bool:
    """Whether any annotation has a value for its mask; ``[[]]``, which encloses nothing, is one."""
    return any(isinstance(each, dict) and each.get('segmentation') for each in content['annotations'])


def left_out(faults: Sequence[AnnotationFault], with_masks: bool) -> list[AnnotationFault]:
    """Return the faults whose annotations are not trained on: mmdet skips them, or ignores them for lack of a mask."""
    return [fault for fault in faults if fault.level == 'drop' or with_masks and fault.kind in _NEEDS_MASKS]


def dropped_share(faults: Sequence[AnnotationFault], annotations: int, with_masks: bool = False) -> tuple[int, float]:
    """Return the number and share of the ``annotations`` that are not trained on; see :func:`left_out`."""
    count = sum(len(fault.where) for fault in left_out(faults, with_masks))
    return count, count / max(1, annotations)


def _check_ids(annotations: list, faults: _Faults) -> None:
    """Report ids that are missing or occur twice; evaluations number the annotations again then."""
    ids: set = set()
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            faults.add('error', 'annotations that are not objects', f'number {number}')
            continue
        key = annotation.get('id')
        if not is_id(key) and not isinstance(key, float):
            faults.add('note', 'annotations without an id, numbered by their order',
                       annotation_label(annotation, number))
        elif key in ids:
            faults.add('warning', 'annotation ids that occur twice, numbered again; is the object in the file twice?',
                       annotation_label(annotation, number))
        else:
            ids.add(key)


class _Usable(NamedTuple):
    """An annotation that mmdet loads."""

    image_id: int | str
    is_crowd: bool
    has_mask: bool
    where: str


def _check_each_annotation(originals: list, annotations: list, images: dict, categories: dict,
                           faults: _Faults) -> list[_Usable]:
    """Add the faults of all annotations and return those that mmdet loads.

    Args:
        originals: Annotations of the file, which the messages name.
        annotations: The same after conversion.
        images: Images by id.
        categories: Categories by id.
        faults: Faults so far.
    """
    usable = []
    for number, (original, annotation) in enumerate(zip(originals, annotations)):
        if not isinstance(annotation, dict):
            continue
        where = annotation_label(original, number)
        fault = _annotation_fault(annotation, images, categories)
        if fault:
            faults.add(*fault, where)
            continue
        mask = annotation.get('segmentation')
        if not mask and not is_crowd(annotation):
            faults.add(*(('warning', LOST_MASK) if original.get('segmentation') else ('note', NO_MASK)), where)
        usable.append(_Usable(annotation['image_id'], is_crowd(annotation), bool(mask), where))
    return usable


def _check_objects(usable: list[_Usable], annotations: int, images: dict, faults: _Faults) -> None:
    """Report images and whole files without objects to train on."""
    objects: dict[Any, list[_Usable]] = {}
    for each in usable:
        objects.setdefault(each.image_id, []).append(each)
    for key, image in images.items():
        where = f'image {key}: {image_file_name(image)}'
        if key not in objects:
            faults.add('note', 'images without usable annotations', where)
        elif all(each.is_crowd for each in objects[key]):
            faults.add('note', 'images with crowd regions only', where)
    crowds = [each.where for each in usable if each.is_crowd]
    if usable and len(crowds) == len(usable):
        kind = (f'all {len(usable)} usable annotations are crowd regions (iscrowd 1), so no object is trained on or '
                'evaluated; set iscrowd to 0 where a mask is one object')
        faults['empty', kind] = AnnotationFault('empty', kind, crowds)
        return
    if len(crowds) > max(1, _MANY_CROWDS * len(usable)):
        kind = (f'{len(crowds)} of {len(usable)} annotations are crowd regions (iscrowd 1), which are not trained on; '
                'set iscrowd to 0 where a mask is one object')
        faults['warning', kind] = AnnotationFault('warning', kind, crowds)
    if annotations and not any(each.has_mask and not each.is_crowd for each in usable):
        kind = (f'none of the {annotations} annotations is an object with a usable mask, so no mask is trained on or '
                'evaluated')
        faults['empty', kind] = AnnotationFault('empty', kind, [each.where for each in usable], needs_masks=True)


def _image_faults(image: dict) -> Iterator[str]:
    if image_file_name(image) is None:
        yield 'images without a file_name'
    if image_size(image) is None:
        yield 'images without a width and height in pixels (add both to the entries of the file)'


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
    image = images.get(annotation.get('image_id')) if is_id(annotation.get('image_id')) else None
    mask_fault = _mask_fault(annotation.get('segmentation'), image)
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


def _mask_fault(mask: Any, image: dict | None) -> str | None:
    """Return the fault of a mask after conversion, or None."""
    if not mask:
        return None
    if isinstance(mask, list):
        if not all(isinstance(polygon, list) and all(is_number(value) for value in polygon) for polygon in mask):
            return 'masks that are not lists of polygons of numbers'
        return None
    if not isinstance(mask, dict):
        return 'masks that are neither polygons nor RLE'
    size, counts = mask.get('size'), mask.get('counts')
    if not (isinstance(size, list) and len(size) == 2 and all(is_number(side) and side >= 1 for side in size)):
        return 'RLE masks without a size'
    if not isinstance(counts, (str, list)):
        return 'RLE masks without counts'
    if run_lengths(mask) is None:
        return 'RLE masks whose counts do not fill their size'
    annotated = image_size(image) if image else None
    if annotated is not None and (size[1], size[0]) != annotated:
        return 'RLE masks of another size than their image (size is [height, width])'
    return None
