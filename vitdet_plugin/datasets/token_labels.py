"""Token labels: soft labels of the places of a picture, made beforehand by another network (arXiv 2104.10858).

A file ``<root>/<class folder>/<picture without suffix>.pt`` holds one tensor (2, k, H, W) over the whole picture: the
k highest logits of each place, and their classes. The official files are in half precision with k = 5.
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
    """mmpretrain's ``RandomResizedCrop``, which also says what it cut out.

    Required key: img. Changed: img, img_shape. Added: crop_box, (x1, y1, x2, y2) as shares of width and height.

    Args:
        kwargs: see ``RandomResizedCrop``; the same draws follow from the same seed.
    """

    def __init__(self, **kwargs) -> None:
        self.kwargs, self._crop = kwargs, None

    def transform(self, results: dict) -> dict:
        """See the class."""
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
    """Loads a picture's token labels and brings them to the cut and flipped picture.

    Place it behind crop and flip, and give ``PackInputs`` its ``keys`` as ``algorithm_keys``. Each cell of the grid is
    RoIAlign's average of its part of the map (as in ReLabel, arXiv 2101.05022), in which classes that are not among the
    k of a place have the logit 0 there. ``VOLOClsHead`` makes probabilities of them.

    Required keys: img_path, crop_box; flip and flip_direction if there was a flip. Added, for the c classes that occur:
    gt_token_classes (c,) int64, gt_token_logits (c, h, w) and gt_cls_logits (c,), the same of the crop as one cell.

    Args:
        root: folder of the label files.
        grid: cells in a column and a row, (h, w) or one number: the size of the classifier's last map.
    """

    keys = ('gt_token_classes', 'gt_token_logits', 'gt_cls_logits')

    def __init__(self, root: str, grid: int | tuple[int, int] = 14) -> None:
        self.root = Path(root)
        self.grid = (grid, grid) if isinstance(grid, int) else tuple(grid)

    def transform(self, results: dict) -> dict:
        """See the class."""
        if 'crop_box' not in results:
            raise UserError('LoadTokenLabels cannot tell what was cut out; crop by RandomResizedCropWithBox before it')
        picture = Path(results['img_path'])
        file = self.root / picture.parent.name / f'{picture.stem}.pt'
        classes, maps = dense_map(read_token_labels(file))
        pooled = pool(maps, results['crop_box'], self.grid)
        if results.get('flip'):
            axes = dict(horizontal=(2,), vertical=(1,), diagonal=(1, 2))[results['flip_direction']]
            pooled = pooled.flip(axes)
        values = classes, pooled, pool(maps, results['crop_box'], (1, 1))[:, 0, 0]
        results.update(zip(self.keys, values))
        return results


def read_token_labels(file: Path) -> Tensor:
    """(2, k, H, W) of a label file.

    Raises:
        UserError: The file is missing, no plain tensor, or of another shape.
    """
    if not file.is_file():
        raise UserError(f'token labels {file} do not exist; LoadTokenLabels.root holds <class folder>/<picture>.pt')
    labels = load_torch_file(file)
    if not isinstance(labels, Tensor) or labels.ndim != 4 or labels.shape[0] != 2:
        found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f'token labels {file}: expected a tensor (2, k, rows, columns), found {found}')
    return labels


def dense_map(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(2, k, H, W) logits and classes -> the c classes that occur, ascending, and their logits (c, H, W), else 0."""
    classes, places = labels[1].round().long().unique(return_inverse=True)
    maps = labels.new_zeros((len(classes), *labels.shape[2:]), dtype=torch.float32)
    return classes, maps.scatter_(0, places, labels[0].float())


def pool(maps: Tensor, box: tuple[float, float, float, float], grid: tuple[int, int]) -> Tensor:
    """RoIAlign of (c, H, W) at a box given as shares of the picture -> (c, *grid); cell centres are at + 0.5."""
    height, width = maps.shape[1:]
    corners = maps.new_tensor([[0, box[0] * width, box[1] * height, box[2] * width, box[3] * height]])
    corners[:, 1:] -= 0.5
    return roi_align(maps[None], corners, grid)[0]
