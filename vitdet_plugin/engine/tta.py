"""Test-time augmentation with horizontal flips, for boxes and masks."""

from collections.abc import Sequence

import torch
from mmcv.ops import batched_nms
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData


@MODELS.register_module()
class FlipTTAModel(BaseTTAModel):
    """Merge the detections of the original and the flipped image.

    Flipped detections are flipped back, then class-wise NMS runs on all detections; each kept box keeps its own mask.
    Unlike mmdet's ``DetTTAModel``, masks are supported.

    Args:
        nms: Config of the class-wise NMS.
        max_per_img: Maximum number of detections per image.
        **kwargs: Other arguments of ``BaseTTAModel``.
    """

    def __init__(self, nms: dict, max_per_img: int = 100, **kwargs):
        super().__init__(**kwargs)
        self.nms, self.max_per_img = dict(nms), max_per_img

    def merge_preds(self, data_samples_list: Sequence[Sequence]) -> list:
        """Merge the views of each image; boxes are in pixels of the original image."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence):
        parts = [_flipped_back(view) if view.flip else view.pred_instances for view in views]
        found = InstanceData.cat(parts)
        if len(found):
            scored, keep = batched_nms(found.bboxes, found.scores, found.labels, self.nms)
            keep = keep[:self.max_per_img]
            found, scores = found[keep], scored[:len(keep), 4]  # soft NMS changes scores
            if 'mask_scores' in found:
                found.mask_scores = found.mask_scores * scores / found.scores.clamp(min=1e-12)
            found.scores = scores
        merged = views[0]
        merged.pred_instances = found
        return merged


def _flipped_back(view) -> InstanceData:
    if view.flip_direction != 'horizontal':
        raise ValueError(f'FlipTTAModel supports horizontal flips only, got flip_direction={view.flip_direction!r}')
    found, width = view.pred_instances, view.ori_shape[1]
    left, top, right, bottom = found.bboxes.unbind(-1)
    found.bboxes = torch.stack([width - right, top, width - left, bottom], dim=-1)
    if 'masks' in found:
        found.masks = found.masks.flip(-1)
    return found
