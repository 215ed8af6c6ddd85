"""Find boxes that are not in COCO's format [x, y, width, height] in pixels, and masks that do not fit the boxes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vitdet_plugin.coco.masks import mask_bounds
from vitdet_plugin.datasets.coco import annotation_box, image_size

# Corners (x1, y1, x2, y2) of boxes (N, 4) by the format that the four numbers may have.
_CORNERS = {
    'x, y, width, height': lambda a, b, c, d: (a, b, a + c, b + d),
    'x1, y1, x2, y2': lambda a, b, c, d: (a, b, c, d),
    'center x, center y, width, height': lambda a, b, c, d: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    'y, x, height, width': lambda a, b, c, d: (b, a, b + d, a + c),
    'y1, x1, y2, x2': lambda a, b, c, d: (b, a, d, c),
}
_COCO = 'x, y, width, height'
_SAMPLE = 2000  # boxes that are compared with their image
_MASKS = 200  # boxes that are compared with their mask
_MOST_INSIDE = 0.8  # share of boxes inside their image, read as COCO's; with more, the format is taken to be COCO's
_OVERLAP = 0.5  # intersection over union of a box and the bounds of its mask that counts as fitting
_MOST_FITTING = 0.5  # share of fitting masks below which they are reported
_SLACK = 2  # pixels by which boxes may leave the image or differ from the bounds of the mask


def find_other_format(annotations: Sequence[Any], images: dict) -> tuple[str, str] | None:
    """Return the format that the boxes of a file have instead of COCO's, and the evidence; None if they seem right.

    Boxes are compared with the bounds of their masks and with the size of their images, when read in each format.

    Args:
        annotations: Annotations of a COCO file; those without a valid box or image are skipped.
        images: Images by id.
    """
    usable = [(box, size, annotation) for annotation in annotations if isinstance(annotation, dict)
              and (box := annotation_box(annotation)) is not None and max(map(abs, box)) < 1e9
              and (size := _size(annotation.get('image_id'), images)) is not None]
    if not usable:
        return None
    usable = usable[::max(1, len(usable) // _SAMPLE)]
    boxes = np.array([box for box, _, _ in usable], dtype=np.float64)
    sizes = np.array([size for _, size, _ in usable], dtype=np.float64)
    if (boxes <= 1.001).all() and (boxes > -0.001).all() and (boxes[:, 2:] < 1).any() and (sizes > 2).all():
        return 'fractions of the image, 0 to 1', f'no value of {len(boxes)} boxes is above 1'
    corners = {name: np.stack(convert(*boxes.T), 1) for name, convert in _CORNERS.items()}
    return _by_masks(usable, corners) or _by_images(sizes, corners)


def find_misplaced_masks(annotations: Sequence[Any], images: dict) -> tuple[str, str, str] | None:
    """Return level, kind and evidence if most masks are elsewhere than their boxes; None if they seem right.

    Args:
        annotations: Annotations of a COCO file whose boxes are in COCO's format; those without a valid box, mask or
            image are skipped.
        images: Images by id.
    """
    usable = [each for each in annotations if isinstance(each, dict) and each.get('segmentation')
              and _size(each.get('image_id'), images) is not None]
    usable = usable[::max(1, len(usable) // _MASKS)]
    pairs = [(box, bounds) for each in usable if (box := annotation_box(each)) is not None and min(box[2:]) > 0
             and (bounds := mask_bounds(each['segmentation'])) is not None]
    if len(pairs) < 3:
        return None
    boxes, bounds = (np.array(values, dtype=np.float64) for values in zip(*pairs))
    if (bounds[:, :2] > -0.001).all() and ((bounds[:, :2] + bounds[:, 2:]) <= 1.001).all() and (boxes > 1.001).any():
        return ('error', 'masks look like fractions of the image, 0 to 1; COCO uses pixels, as for the boxes',
                f'no value of {len(pairs)} masks is above 1')
    low = np.maximum(boxes[:, :2], bounds[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:], bounds[:, :2] + bounds[:, 2:])
    common = np.maximum(high - low, 0).prod(1)
    overlap = common / (boxes[:, 2:].prod(1) + bounds[:, 2:].prod(1) - common)
    fitting = float((overlap >= _OVERLAP).mean())
    if fitting >= _MOST_FITTING:
        return None
    return ('warning', 'masks that do not fit their boxes; is one of them in other units, or of another object?',
            f'{fitting:.0%} of {len(pairs)} boxes overlap the bounds of their mask by half')


def _size(image_id: Any, images: dict) -> tuple[float, float] | None:
    return image_size(images[image_id]) if isinstance(image_id, (int, str)) and image_id in images else None


def _by_masks(usable: list, corners: dict[str, np.ndarray]) -> tuple[str, str] | None:
    chosen = range(0, len(usable), max(1, len(usable) // _MASKS))
    bounds = {index: found for index in chosen if (found := mask_bounds(usable[index][2].get('segmentation')))}
    if len(bounds) < 3:
        return None
    index = list(bounds)
    x, y, width, height = np.array(list(bounds.values())).T
    target = np.stack([x, y, x + width, y + height], 1)
    slack = np.maximum(_SLACK, 0.1 * np.maximum(width, height))[:, None]
    share = {name: float((abs(found[index] - target) <= slack).all(1).mean()) for name, found in corners.items()}
    best = max(share, key=share.__getitem__)
    if best == _COCO or share[best] < 0.9 or share[_COCO] > 0.5:
        return None
    return best, f'read so, {share[best]:.0%} of the boxes fit their masks, against {share[_COCO]:.0%}'


def _by_images(sizes: np.ndarray, corners: dict[str, np.ndarray]) -> tuple[str, str] | None:
    share = {}
    for name, (x1, y1, x2, y2) in ((name, found.T) for name, found in corners.items()):
        inside = (x1 >= -_SLACK) & (y1 >= -_SLACK) & (x2 <= sizes[:, 0] + _SLACK) & (y2 <= sizes[:, 1] + _SLACK)
        share[name] = float((inside & (x2 > x1) & (y2 > y1)).mean())
    if share[_COCO] > _MOST_INSIDE or len(sizes) < 3:
        return None
    best = max(share, key=share.__getitem__)  # the first one where several fit
    if share[best] < 0.98:
        return None
    return best, f'read so, {share[best]:.0%} of the boxes are inside their image, against {share[_COCO]:.0%}'
