"""Token labels: soft labels for every position of an image, computed by another network (arXiv 2104.10858).

A file ``<root>/<class folder>/<image without suffix>.pt`` holds one tensor (2, k, H, W) over the whole image: the k
highest logits at each position, and their classes. The official files have half precision and k = 5.
"""

from __future__ import annotations

from pathlib import Path

import mmcv
import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from torch import Tensor
from torchvision.ops import roi_align

from vitdet_plugin.compat.safe_load import load_torch_file
from vitdet_plugin.errors import UserError


@TRANSFORMS.register_module()
class RandomResizedCropWithBox(BaseTransform):
    """mmpretrain's ``RandomResizedCrop`` that also stores the box of the crop.

    Required key: img. Changed: img, img_shape. Added: crop_box, (x1, y1, x2, y2) as fractions of width and height.

    Args:
        kwargs: See ``RandomResizedCrop``; the same seed gives the same crops.
    """

    def __init__(self, **kwargs) -> None:
        self.kwargs, self._crop = kwargs, None

    def transform(self, results: dict) -> dict:
        """Apply the transform; see the class."""
        if self._crop is None:
            from mmpretrain.datasets.transforms import RandomResizedCrop
            self._crop = RandomResizedCrop(**self.kwargs)
        img, crop = results['img'], self._crop
        top, left, height, width = crop.rand_crop_params(img)
        results['crop_box'] = (left / img.shape[1], top / img.shape[0],
                               (left + width) / img.shape[1], (top + height) / img.shape[0])
        cut = mmcv.imcrop(img, np.array([left, top, left + width - 1, top + height - 1]))
        results['img'] = mmcv.imresize(cut, tuple(crop.scale[::-1]), interpolation=crop.interpolation,
                                       backend=crop.backend)
        results['img_shape'] = results['img'].shape
        return results


@TRANSFORMS.register_module()
class LoadTokenLabels(BaseTransform):
    """Load the token labels of an image and transform them as the image was cropped and flipped.

    Use it after crop and flip, and give ``PackInputs`` its ``keys`` as ``algorithm_keys``. Each cell of the grid is the
    average by RoIAlign of its part of the map (as in ReLabel, arXiv 2101.05022); classes that are not among the k of a
    position have the logit 0 there. ``VOLOClsHead`` computes probabilities from the logits.

    Required keys: img_path, crop_box; flip and flip_direction if the image was flipped. Added, for the c classes that
    occur: gt_token_classes (c,) int64, gt_token_logits (c, h, w) and gt_cls_logits (c,), the logits of the whole crop.

    Args:
        root: Folder of the label files.
        grid: Cells in a column and a row, (h, w) or one number: the size of the classifier's last map.
    """

    keys = ('gt_token_classes', 'gt_token_logits', 'gt_cls_logits')

    def __init__(self, root: str, grid: int | tuple[int, int] = 14) -> None:
        self.root = Path(root)
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)

    def transform(self, results: dict) -> dict:
        """Apply the transform; see the class."""
        if 'crop_box' not in results:
            raise UserError('LoadTokenLabels needs crop_box; use RandomResizedCropWithBox before it in the pipeline')
        image = Path(results['img_path'])
        file = self.root / image.parent.name / f'{image.stem}.pt'
        classes, maps = dense_map(read_token_labels(file))
        pooled = pool(maps, results['crop_box'], self.grid)
        if results.get('flip'):
            axes = dict(horizontal=(2,), vertical=(1,), diagonal=(1, 2))[results['flip_direction']]
            pooled = pooled.flip(axes)
        values = classes, pooled, pool(maps, results['crop_box'], (1, 1))[:, 0, 0]
        results.update(zip(self.keys, values))
        return results


def read_token_labels(file: Path) -> Tensor:
    """Read a label file, (2, k, H, W).

    Raises:
        UserError: The file is missing, is not a plain tensor, or has another shape.
    """
    if not file.is_file():
        raise UserError(f'token labels {file} do not exist; LoadTokenLabels.root must hold '
                        '<class folder>/<image without suffix>.pt')
    labels = load_torch_file(file)
    if not isinstance(labels, Tensor) or labels.ndim != 4 or labels.shape[0] != 2:
        found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f'token labels {file}: expected a tensor (2, k, rows, columns), found {found}')
    return labels


def dense_map(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the c classes of labels (2, k, H, W), ascending, and their logits (c, H, W), 0 where a class is absent."""
    classes, index = labels[1].round().long().unique(return_inverse=True)
    maps = labels.new_zeros((len(classes), *labels.shape[2:]), dtype=torch.float32)
    return classes, maps.scatter_(0, index, labels[0].float())


def pool(maps: Tensor, box: tuple[float, float, float, float], grid: tuple[int, int]) -> Tensor:
    """Average maps (c, H, W) in a box, in fractions of the image, by RoIAlign -> (c, *grid); cell centers at + 0.5."""
    height, width = maps.shape[1:]
    corners = maps.new_tensor([[0, box[0] * width, box[1] * height, box[2] * width, box[3] * height]])
    corners[:, 1:] -= 0.5
    return roi_align(maps[None], corners, grid)[0]
