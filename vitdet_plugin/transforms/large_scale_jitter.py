"""Large-scale jittering (arXiv 2012.07177) as in detectron2's ViTDet recipe, in one step."""

from math import inf

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import PolygonMasks
from mmengine.registry import TRANSFORMS

from vitdet_plugin.errors import UserError
from vitdet_plugin.transforms.crop_annotations import crop_bitmaps, crop_boxes, crop_polygons
from vitdet_plugin.transforms.crop_window import CropWindow, jitter_window, resize_and_crop
from vitdet_plugin.utils.arguments import check_interval, check_positive, check_range, check_whole

_BACKENDS = ('cv2', 'pillow')


@TRANSFORMS.register_module()
class LargeScaleJitter(BaseTransform):
    """Flip, resize by a random scale and crop to at most ``image_size`` x ``image_size``, without padding.

    The distribution is that of detectron2's RandomFlip, ResizeScale and FixedSizeCrop: the image is fitted into a
    square of ``image_size`` times a number from ``scale``. Along an axis longer than ``image_size``, the crop starts at
    a random fraction (the same for both axes) of the excess length. Boxes are recomputed from the masks, and instances
    outside the crop are removed. Padding must follow normalization, so it is done by the data preprocessor.

    Use it instead of mmdet's RandomResize, RandomCrop, FilterAnnotations and RandomFlip, directly before PackDetInputs.
    Masks keep the type from ``LoadAnnotations``: polygons with ``poly2mask=False`` (fast; RLE is converted, but for
    crowds, which are ignored), otherwise bitmaps.

    Required keys: img. Optional: gt_bboxes, gt_bboxes_labels, gt_ignore_flags, gt_masks, gt_seg_map. Added or changed:
    these and img_shape (height, width), scale (width, height), scale_factor (x, y), keep_ratio, flip, flip_direction,
    homography_matrix (3, 3) float32. ``img`` is (H, W, C) with channel-first memory, so packing does not copy it.

    Args:
        image_size: Side of the crop in pixels.
        scale: Smallest and largest scale relative to ``image_size``.
        resize_backend: ``cv2``, or ``pillow`` for antialiasing as in detectron2 (slower).
        flip_prob: Probability of mirroring left and right.
        min_box_size: Instances are kept if the width and height of their box exceed this number of pixels.
        skip_empty: Return None when no instance remains, so that the data set draws another image. By default the
            image is used as background.

    Raises:
        UserError: An argument is invalid.
    """

    def __init__(self, image_size: int = 1024, scale: tuple[float, float] = (0.1, 2.0), resize_backend: str = 'cv2',
                 flip_prob: float = 0.5, min_box_size: float = 1e-5, skip_empty: bool = False) -> None:
        if resize_backend not in _BACKENDS:
            raise UserError(f'LargeScaleJitter: resize_backend={resize_backend!r} is unknown; use one of {_BACKENDS}')
        check_whole(1, image_size=image_size)
        check_interval(0, inf, scale=scale)
        check_positive(scale=scale[0])
        check_range(0, 1, flip_prob=flip_prob)
        check_range(0, inf, min_box_size=min_box_size)
        self.image_size = image_size
        self.scale = tuple(scale)
        self.resize_backend = resize_backend
        self.flip_prob = flip_prob
        self.min_box_size = min_box_size
        self.skip_empty = skip_empty

    @cache_randomness
    def _draw(self) -> tuple[bool, float, float]:
        """Draw flip, relative scale and crop position from NumPy's global state, in the order of the reference."""
        return np.random.uniform() < self.flip_prob, np.random.uniform(*self.scale), np.random.uniform()

    def transform(self, results: dict) -> dict | None:
        """Apply the transform; see the class."""
        flip, relative_scale, position = self._draw()
        window = jitter_window(results['img'].shape[:2], self.image_size, relative_scale, position, flip)
        results['img'] = _channels_first(resize_and_crop(results['img'], window, self.resize_backend))
        _crop_instances(results, window, self.min_box_size)
        if results.get('gt_seg_map') is not None:
            rows, columns = window.nearest_rows_and_columns()
            results['gt_seg_map'] = results['gt_seg_map'][rows[:, None], columns]
        results['img_shape'] = window.size
        results['scale'] = window.scaled[::-1]
        results['scale_factor'] = window.factor[::-1]
        results['keep_ratio'] = True
        results['flip'] = window.flip
        results['flip_direction'] = 'horizontal' if window.flip else None
        matrix = window.matrix().astype(np.float32)
        earlier = results.get('homography_matrix')
        results['homography_matrix'] = matrix if earlier is None else matrix @ earlier
        if self.skip_empty and not len(results.get('gt_bboxes', ())):
            return None
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(image_size={self.image_size}, scale={self.scale}, '
                f'resize_backend={self.resize_backend!r}, flip_prob={self.flip_prob}, '
                f'min_box_size={self.min_box_size}, skip_empty={self.skip_empty})')


def _channels_first(image: np.ndarray) -> np.ndarray:
    """Return the same (H, W, C) image in (C, H, W) memory."""
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    planes = np.empty((image.shape[2], *image.shape[:2]), image.dtype)
    cv2.split(image, list(planes))
    return planes.transpose(1, 2, 0)


def _crop_instances(results: dict, window: CropWindow, min_box_size: float) -> None:
    """Transform masks and boxes to the crop and remove the instances outside of it, in place."""
    if results.get('gt_bboxes') is None:
        return
    given, masks = results['gt_bboxes'], results.get('gt_masks')
    if masks is None:
        boxes = _crop_given_boxes(given, window)
    else:
        boxes, select = (crop_polygons if isinstance(masks, PolygonMasks) else crop_bitmaps)(masks, window)
        # An ignored region may have no mask (RLE crowds are loaded that way with polygons): its box is used instead.
        ignored = np.flatnonzero(results.get('gt_ignore_flags', ()))
        no_mask = [index for index in ignored if not np.any(masks.masks[index])]
        if no_mask:
            boxes[no_mask] = _crop_given_boxes(given, window)[no_mask]
    keep = np.flatnonzero((boxes[:, 2:] - boxes[:, :2] > min_box_size).all(1))
    if masks is not None:
        results['gt_masks'] = select(keep)
    boxes = boxes[keep].astype(np.float32)
    is_wrapped = isinstance(given, HorizontalBoxes)
    results['gt_bboxes'] = HorizontalBoxes(torch.from_numpy(boxes), clone=False) if is_wrapped else boxes
    for key in ('gt_bboxes_labels', 'gt_ignore_flags'):
        if key in results:
            results[key] = results[key][keep]


def _crop_given_boxes(boxes: HorizontalBoxes | np.ndarray, window: CropWindow) -> np.ndarray:
    return crop_boxes(boxes.tensor.numpy() if isinstance(boxes, HorizontalBoxes) else boxes, window)
