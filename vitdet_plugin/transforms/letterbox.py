"""Resizing with the aspect ratio kept, and padding on both sides."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from vitdet_plugin.utils.arguments import check_range, check_whole


@TRANSFORMS.register_module()
class LetterBox(BaseTransform):
    """Fit the image into a rectangle and center it there on a gray background.

    The rectangle is the key ``batch_shape`` (height, width) in pixels if
    :class:`vitdet_plugin.datasets.rectangle_batches.RectangleBatches` has set it, otherwise a square of ``img_size``.

    Required key: img, (H, W, 3). Optional: gt_bboxes. Changed: these and img_shape. Added: scale_factor (x, y) and
    letterbox_offset (left, top) in pixels. ``YOLOv5Head`` needs both to compute boxes in the original image, so list
    them in ``PackDetInputs.meta_keys``.

    Args:
        img_size: Longest side in pixels.
        upscale: Whether to enlarge smaller images too.
        fill: Gray value of the padding.
    """

    def __init__(self, img_size: int = 640, upscale: bool = False, fill: int = 114) -> None:
        check_whole(1, img_size=img_size)
        check_range(0, 255, fill=fill)
        self.img_size, self.upscale, self.fill = img_size, upscale, fill

    def transform(self, results: dict) -> dict:
        """Apply the transform; see the class."""
        image = results['img']
        height, width = image.shape[:2]
        rows, columns = results.get('batch_shape', (self.img_size, self.img_size))
        ratio = min(self.img_size / max(height, width), rows / height, columns / width)
        if not self.upscale:
            ratio = min(ratio, 1.0)
        new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
        if (new_width, new_height) != (width, height):
            image = cv2.resize(image, (new_width, new_height),
                               interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
        left, top = (columns - new_width) // 2, (rows - new_height) // 2
        results['img'] = cv2.copyMakeBorder(image, top, rows - new_height - top, left, columns - new_width - left,
                                            cv2.BORDER_CONSTANT, value=(self.fill,) * 3)
        results['img_shape'] = (rows, columns)
        results['scale_factor'] = (new_width / width, new_height / height)
        results['letterbox_offset'] = (left, top)
        if 'gt_bboxes' in results:
            results['gt_bboxes'].rescale_(results['scale_factor'])
            results['gt_bboxes'].translate_((left, top))
        return results


def batch_shapes(sizes: np.ndarray, batch_size: int, img_size: int, stride: int = 32,
                 pad: float = 0.5) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Sort images by aspect ratio and compute the smallest rectangle for each batch of them.

    Args:
        sizes: (N, 2) width and height of each image in pixels.
        batch_size: Images per batch.
        img_size: Longest side of a rectangle in pixels, before padding.
        stride: The sides of the rectangles are multiples of this.
        pad: Padding to add before rounding up, in strides.

    Returns:
        (N,) indices in order of the aspect ratio, and (height, width) of each batch in pixels.
    """
    aspect = sizes[:, 1] / sizes[:, 0]
    order = np.argsort(aspect, kind='stable')
    shapes = []
    for first in range(0, len(order), batch_size):
        lowest, highest = aspect[order[first]], aspect[order[first:first + batch_size][-1]]
        shape = np.array([1.0, 1.0])
        if highest < 1:
            shape[0] = highest
        elif lowest > 1:
            shape[1] = 1 / lowest
        shapes.append(tuple(int(side) for side in np.ceil(shape * img_size / stride + pad).astype(int) * stride))
    return order, shapes
