"""Mask head whose targets are made for all images at once, from the boxes that the host has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torchvision  # noqa: F401  loads torch.ops.torchvision
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.registry import MODELS
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from vitdet_plugin.heads.deferred_sampler import DeferredSamples
from vitdet_plugin.heads.polygon_masks import draw_in_boxes
from vitdet_plugin.heads.transfers import to_device


@MODELS.register_module()
class BatchedMaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead`` with the same weights and targets.

    Polygons of all images are drawn at once, and bitmaps are cropped on the device without coming back to the host;
    with :class:`DeferredSamples`, the GPU is not waited for.
    """

    smallest_side = 1.0  #: in pixels, of boxes in which polygons are drawn; smaller ones are scaled as if they had it
    clips_polygons = True  #: whether the boxes in which polygons are drawn end at the border of the image

    def get_targets(self, sampling_results: list[SamplingResult], batch_gt_instances: list[InstanceData],
                    rcnn_train_cfg: ConfigDict) -> Tensor:
        """Return the masks inside the positive boxes of all images, (n, ``mask_size``, ``mask_size``) of 0 and 1."""
        masks = [objects.masks for objects in batch_gt_instances]
        kinds = {type(each) for each in masks}
        if rcnn_train_cfg.get('soft_mask_target') or len(kinds) != 1 or not kinds <= {PolygonMasks, BitmapMasks}:
            targets: Tensor = super().get_targets(sampling_results, batch_gt_instances, rcnn_train_cfg)
            return targets
        size = rcnn_train_cfg.mask_size
        height, width = (size, size) if isinstance(size, int) else size
        parts, device = _on_host(sampling_results), sampling_results[0].pos_priors.device
        if kinds == {PolygonMasks}:
            return to_device(torch.from_numpy(self._draw(masks, parts, height, width)), device).float()
        return torch.cat([_crop(each, *part, height, width, device) for each, part in zip(masks, parts, strict=True)])

    def _draw(self, masks: Sequence[PolygonMasks], parts: Sequence[tuple[np.ndarray, np.ndarray]], height: int,
              width: int) -> np.ndarray:
        """(n, height, width) uint8 from the boxes (n_i, 4) and objects (n_i,) of each image."""
        starts = np.cumsum([0, *(len(each.masks) for each in masks)])
        boxes = [_clipped(box, mask) if self.clips_polygons else box for mask, (box, _) in zip(masks, parts)]
        indices = [index + start for start, (_, index) in zip(starts, parts)]
        return draw_in_boxes([polygons for each in masks for polygons in each.masks], np.concatenate(indices),
                             np.concatenate(boxes), height, width, self.smallest_side)


def _on_host(samples: Sequence[Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positive boxes (n, 4) of each image and the indices (n,) of their objects."""
    if all(isinstance(each, DeferredSamples) for each in samples):
        return [(each.host_boxes[:len(each.host_gt_inds)], each.host_gt_inds) for each in samples]
    # one copy for all images; float32 holds the number of an object exactly
    rows = torch.cat([torch.cat([each.pos_priors.float(), each.pos_assigned_gt_inds.float()[:, None]], 1)
                      for each in samples])
    ends = np.cumsum([len(each.pos_priors) for each in samples])[:-1]
    return [(part[:, :4], part[:, 4].astype(np.int64)) for part in np.split(rows.cpu().numpy(), ends)]


def _crop(masks: BitmapMasks, boxes: np.ndarray, indices: np.ndarray, height: int, width: int,
          device: torch.device) -> Tensor:
    """(n, height, width) of 0 and 1 on ``device``, as ``masks.crop_and_resize``."""
    if not len(boxes):
        return torch.zeros(0, height, width, device=device)
    used, row = np.unique(indices, return_inverse=True)
    rois = np.concatenate([row[:, None].astype(np.float32), _clipped(boxes, masks)], 1)
    bitmaps = to_device(torch.from_numpy(masks.masks[used]), device)[:, None].float()
    cropped = torch.ops.torchvision.roi_align(bitmaps, to_device(torch.from_numpy(rois), device), 1.0, height, width, 0,
                                              True)
    return (cropped[:, 0] >= 0.5).float()


def _clipped(boxes: np.ndarray, masks: PolygonMasks | BitmapMasks) -> np.ndarray:
    limits = np.array([masks.width, masks.height] * 2, boxes.dtype)
    clipped: np.ndarray = np.clip(boxes, 0, limits)
    return clipped
