"""Content of COCO files in the form that mmdet and the evaluators require.

Labeling tools write flags as text, ids as text or floats, polygons nested in other ways, and the same category twice.
mmdet and pycocotools then fail, or ignore the objects silently. :func:`prepare_coco` converts what has one meaning and
lists what it changed; training, evaluation, checks, converters and statistics all use it, so that they agree.
"""

import hashlib
import math
from collections import defaultdict
from typing import Any, NamedTuple

from vitdet_plugin.coco.masks import mask_area, mask_bounds, number_of, usable_mask

LOST_MASK = ('annotations whose mask encloses nothing (polygons need 3 or more points that are not on a line, and an '
             'even number of values)')
TEXT_FLAG = 'annotations with "iscrowd" as text, read as 0 or 1'
OTHER_FLAG = 'annotations whose "iscrowd" is a number other than 0 and 1, read as 1: crowd regions'
BAD_FLAG = 'annotations whose "iscrowd" is not 0 or 1'
SAME_NAME = 'category names that occur twice, both with annotations (rename one, or merge them in the file)'
UNUSED_NAME = 'categories without annotations that have the name of another one, ignored'
_FALSE, _TRUE = ('', '0', '0.0', 'false', 'no', 'none', 'null'), ('1', '1.0', 'true', 'yes')


class Change(NamedTuple):
    """One conversion: ``level`` is 'error' (not possible), 'warning' or 'note'; what it is; and the entry."""

    level: str
    kind: str
    where: str


class PreparedCoco(NamedTuple):
    """Content of a COCO file after conversion.

    Attributes:
        content: The whole file; entries that needed no change are those of the original.
        changes: What was converted or could not be.
        image_ids: Original id of each image whose id was text or a float, by the integer that replaces it.
        category_ids: Likewise of categories.
    """

    content: dict
    changes: list[Change]
    image_ids: dict[int, Any]
    category_ids: dict[int, Any]


def prepare_coco(content: dict) -> PreparedCoco:
    """Convert the entries of a COCO file to the form that mmdet and the evaluators require.

    * ids: floats and decimal text become integers, other text becomes an integer computed from it;
    * categories: numbers as names become text; unused categories with the name of another one are removed;
    * images: ``file_name`` is taken from ``coco_url`` where it is missing (LVIS); sizes as text or floats become
      integers;
    * annotations: ``iscrowd`` and ``ignore`` become 0 or 1, any other number 1; polygons become lists of lists of
      numbers, without those that enclose nothing; numbers as text become numbers; a missing box is computed from the
      mask, and a missing area from the mask or box.

    Invalid entries stay as they are. There are as many annotations as before, in the same order.

    Args:
        content: Object with the lists ``images``, ``categories`` and ``annotations``; each may be missing. Not changed.
    """
    changes: list[Change] = []
    image_ids: dict[int, Any] = {}
    category_ids: dict[int, Any] = {}
    prepared = dict(content)
    if isinstance(content.get('images'), list):
        prepared['images'] = [_with_size(_with_file_name(_with_id(image, image_ids))) for image in content['images']]
    annotations = content.get('annotations')
    if isinstance(annotations, list):
        prepared['annotations'] = [prepare_annotation(annotation, number, changes) if isinstance(annotation, dict)
                                   else annotation for number, annotation in enumerate(annotations)]
    if isinstance(content.get('categories'), list):
        categories = [_with_name(_with_id(category, category_ids)) for category in content['categories']]
        used = None
        if isinstance(annotations, list):
            used = {_hashable(each.get('category_id')) for each in prepared['annotations'] if isinstance(each, dict)}
        prepared['categories'] = _without_repeated_names(categories, used, changes)
    return PreparedCoco(prepared, changes, image_ids, category_ids)


def number_annotations(content: dict) -> dict:
    """Return the content with annotation ids from 1, unless all ids are different positive integers.

    pycocotools requires ids and counts an object of id 0 as not matched; nothing else refers to these ids.
    """
    annotations = content.get('annotations')
    if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
        return content
    ids = [each.get('id') for each in annotations]
    if all(type(key) is int and key > 0 for key in ids) and len(set(ids)) == len(ids):
        return content
    return {**content, 'annotations': [{**each, 'id': number} for number, each in enumerate(annotations, 1)]}


def integer_id(key: Any) -> int | None:
    """Return an id as an integer, or None if it is neither a number without fraction nor a text.

    Text that is not decimal gives 48 bits of a hash, so that the same text has the same id in every file.
    """
    if isinstance(key, bool):
        return None
    if isinstance(key, int):
        return key
    if isinstance(key, float):
        return int(key) if key.is_integer() else None
    if isinstance(key, str) and key:
        if key.isascii() and key.isdigit() and len(key) < 16:
            return int(key)
        return int.from_bytes(hashlib.blake2b(key.encode('utf-8', 'surrogatepass'), digest_size=6).digest(), 'big')
    return None


def parse_flag(value: Any) -> int | None:
    """Return ``iscrowd`` or ``ignore`` as 0 or 1, or None if the value is neither a number nor a known word.

    Missing (None) is 0. Every number other than 0 is 1, as for mmdet and pycocotools.
    """
    if value is None:
        return 0
    if isinstance(value, str):
        text = value.strip().lower()
        if text in _FALSE or text in _TRUE:
            return int(text in _TRUE)
        value = number_of(text)
    return int(value != 0) if isinstance(value, (int, float)) and abs(value) < math.inf else None


def category_name(category: dict) -> str | None:
    """Return the name of a category, where a number stands for its text, or None if it has none."""
    name = category.get('name')
    if isinstance(name, (int, float)) and not isinstance(name, bool):
        return str(name)
    return name if isinstance(name, str) and name.strip() else None


def _with_id(entry: Any, originals: dict[int, Any]) -> Any:
    key = entry.get('id') if isinstance(entry, dict) else None
    if type(key) is int or (new := integer_id(key)) is None:
        return entry
    originals[new] = key
    return {**entry, 'id': new}


def _with_name(category: Any) -> Any:
    if not isinstance(category, dict) or isinstance(category.get('name'), str):
        return category
    name = category_name(category)
    return category if name is None else {**category, 'name': name}


def _with_file_name(image: Any) -> Any:
    url = image.get('coco_url') if isinstance(image, dict) and 'file_name' not in image else None
    return {**image, 'file_name': '/'.join(url.split('/')[-2:])} if isinstance(url, str) and url else image


def _with_size(image: Any) -> Any:
    """Return an image whose width and height are integers where they are whole numbers; pycocotools takes no others."""
    if not isinstance(image, dict) or type(image.get('width')) is int and type(image.get('height')) is int:
        return image
    sides = {key: number_of(image.get(key)) for key in ('width', 'height')}
    return {**image, **{key: int(side) for key, side in sides.items() if isinstance(side, (int, float))
                        and not isinstance(side, bool) and 0 < side < math.inf and side % 1 == 0}}


def _without_repeated_names(categories: list, used: set | None, changes: list[Change]) -> list:
    """Remove categories without annotations that have the name of another one; the last one remains if none is used.
    """
    ids_of = defaultdict(list)
    for category in categories:
        if isinstance(category, dict) and isinstance(category.get('name'), str) and type(category.get('id')) is int:
            ids_of[category['name']].append(category['id'])
    removed: list[tuple[str, int]] = []
    for name, ids in ids_of.items():
        if len(ids) == 1 or len(set(ids)) < len(ids):  # an id that occurs twice is another fault
            continue
        if used is None:  # the annotations of a large file, which are not read
            removed += [(name, key) for key in ids[:-1]]
            continue
        in_use = [key for key in ids if key in used]
        if len(in_use) > 1:
            changes.append(Change('error', SAME_NAME, f'{name!r} (ids {", ".join(map(str, in_use))})'))
        kept = in_use or ids[-1:]
        removed += [(name, key) for key in ids if key not in kept]
    if used is not None:
        changes += [Change('warning', UNUSED_NAME, f'{name!r} (id {key})') for name, key in removed]
    return [category for category in categories
            if not isinstance(category, dict) or (category.get('name'), category.get('id')) not in removed]


def prepare_annotation(annotation: dict, number: int, changes: list[Change]) -> dict:
    new: dict[str, Any] = {}

    def report(level: str, kind: str) -> None:
        changes.append(Change(level, kind, annotation_label(annotation, number)))

    for key in ('image_id', 'category_id'):
        value = annotation.get(key)
        if type(value) is not int and (as_integer := integer_id(value)) is not None:
            new[key] = as_integer
    crowd = annotation.get('iscrowd')
    if type(crowd) is not int or crowd not in (0, 1):
        flag = parse_flag(crowd)
        if flag is None:
            report('error', BAD_FLAG)
        else:
            new['iscrowd'] = flag
        if isinstance(crowd, str) and flag is not None:
            report('note', TEXT_FLAG)
        if flag and number_of(crowd) not in (0, 1) and isinstance(number_of(crowd), (int, float)):
            report('warning', OTHER_FLAG)
    if isinstance(annotation.get('ignore'), str) and (flag := parse_flag(annotation['ignore'])) is not None:
        new['ignore'] = flag
    given = annotation.get('segmentation')
    mask, lost = usable_mask(given)
    if mask is not given:
        new['segmentation'] = mask
    if lost:
        report(*(('note', 'masks with some polygons that enclose nothing (fewer than 3 points, points on a line, an '
                          'odd number of values), left out')
                 if mask else ('warning', LOST_MASK)))
    box = annotation.get('bbox')
    if isinstance(box, list) and len(box) == 4 and str in map(type, box):
        box = new['bbox'] = list(map(number_of, box))
    if (box is None or box == []) and (bounds := mask_bounds(mask)) is not None:
        box = new['bbox'] = bounds
        report('note', 'annotations without a bbox, computed from their mask')
    area = number_of(annotation.get('area'))
    if area is not annotation.get('area') and not isinstance(area, str):
        new['area'] = area
    if type(area) not in (int, float) or not 0 < area < math.inf:
        size = mask_area(mask) or _box_area(box)
        if size:
            new['area'] = size
            report('note', 'annotations without an area above 0, computed from their mask or box')
    return {**annotation, **new} if new else annotation


def annotation_label(annotation: dict, number: int) -> str:
    """Return the name of an annotation for messages: its id, or its position in the list, and its image."""
    return f'annotation {annotation.get("id", f"number {number}")} of image {annotation.get("image_id", "?")}'


def _box_area(box: Any) -> float | None:
    if not isinstance(box, (list, tuple)) or len(box) != 4:
        return None
    sides = box[2:]
    if not all(isinstance(side, (int, float)) and not isinstance(side, bool) and 0 < side < 1e9 for side in sides):
        return None
    return sides[0] * sides[1]


def _hashable(key: Any) -> Any:
    return key if isinstance(key, (int, str, float)) else None
