"""Resizing with the aspect ratio kept, and padding on both sides."""

from __future__ import annotations

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS


@TRANSFORMS.register_module()
class LetterBox(BaseTransform):
    """Fits the picture into a rectangle and centres it there on grey.

    The rectangle is ``batch_shape`` (h, w), where
    :class:`vitdet_plugin.datasets.rectangle_batches.RectangleBatches` has left one, otherwise a square of ``img_size``.

    Required key: img. Optional: gt_bboxes. Changed: these and img_shape. Added: scale_factor (x, y),
    letterbox_offset (left, top) in pixels; ``YOLOv5Head`` needs both to say where things are in the original picture,
    so name them in ``PackDetInputs.meta_keys``.

    Args:
        img_size: longest side in pixels.
        upscale: also enlarge smaller pictures.
        fill: grey value of the padding.
    """

    def __init__(self, img_size: int = 640, upscale: bool = False, fill: int = 114) -> None:
        self.img_size, self.upscale, self.fill = img_size, upscale, fill

    def transform(self, results: dict) -> dict:
        """See the class."""
        picture = results['img']
        height, width = picture.shape[:2]
        rows, columns = results.get('batch_shape', (self.img_size, self.img_size))
        ratio = min(self.img_size / max(height, width), rows / height, columns / width)
        if not self.upscale:
            ratio = min(ratio, 1.0)
        new_width, new_height = max(round(width * ratio), 1), max(round(height * ratio), 1)
        if (new_width, new_height) != (width, height):
            picture = cv2.resize(picture, (new_width, new_height),
                                 interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR)
        left, top = (columns - new_width) // 2, (rows - new_height) // 2
        results['img'] = cv2.copyMakeBorder(picture, top, rows - new_height - top, left, columns - new_width - left,
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
    """Pictures in the order of their aspect ratios, and the smallest rectangle for each batch of them.

    Args:
        sizes: (n, 2) widths and heights. batch_size: pictures a batch. img_size: longest side of a rectangle before
            padding. stride: sides are multiples of it. pad: strides of padding added before rounding up.

    Returns:
        (n,) order, and (height, width) of each batch.
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
