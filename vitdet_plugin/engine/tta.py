"""Test-time augmentation by horizontal flip, for boxes and masks."""

from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData


@MODELS.register_module()
class FlipTTAModel(BaseTTAModel):
    """Merge detections of flipped and plain views: flip back, then NMS over all; a kept box keeps its own mask.

    (mmdet's DetTTAModel refuses masks.)

    Args:
        nms: NMS of the merge, per class.
        max_per_img: Detections kept in an image.
        **kwargs: As for ``BaseTTAModel``.
    """

    def __init__(self, nms: dict, max_per_img: int = 100, **kwargs):
        super().__init__(**kwargs)
        self.nms, self.max_per_img = dict(nms), max_per_img

    def merge_preds(self, data_samples_list: Sequence[Sequence]) -> list:
        """Merge the views of each image; predictions are in the original image's pixels, as mmdet returns them."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence):
        parts = [_flipped_back(view) if view.flip else view.pred_instances for view in views]
        found = InstanceData.cat(parts)
        if len(found):
            scored, keep = batched_nms(found.bboxes, found.scores, found.labels, self.nms)
            keep = keep[:self.max_per_img]
            found = found[keep]
            found.scores = scored[:len(keep), 4]  # soft NMS lowers scores
        merged = views[0]
        merged.pred_instances = found
        return merged


def _flipped_back(view) -> InstanceData:
    if view.flip_direction != 'horizontal':
        raise ValueError(f'FlipTTAModel knows horizontal flips, not {view.flip_direction!r}')
    found, width = view.pred_instances, view.ori_shape[1]
    left, top, right, bottom = found.bboxes.unbind(-1)
    found.bboxes = torch.stack([width - right, top, width - left, bottom], dim=-1)
    if 'masks' in found:
        found.masks = found.masks.flip(-1)
    return found
