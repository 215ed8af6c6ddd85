"""Mask head with the initial weights and the targets of detectron2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask
import torch
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.task_modules.samplers import SamplingResult
from mmdet.structures.mask import PolygonMasks, mask_target
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from vitdet_plugin.heads.deferred_sampler import DeferredSamples
from vitdet_plugin.heads.transfers import to_device

SMALLEST_SIDE = 0.1  # pixels; detectron2's limit for the scale of a mask


@MODELS.register_module()
class Detectron2MaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead`` with two details of detectron2 and an option of EVA-02's detectors.

    - The last convolution starts with a standard deviation of 0.001 instead of (2 / ``num_classes``) ** 0.5.
    - Masks given as polygons are scaled to the real size of the box from 0.1 pixel on. mmdet treats boxes below one
      pixel as one pixel wide, so their targets are nearly empty.
    - With ``maskness_thr`` in ``test_cfg.rcnn``, the results have ``mask_scores``: the score of the box times the
      :func:`maskness` of the mask. Metrics use them for masks; boxes keep their scores.
    """

    def init_weights(self) -> None:
        """Initialize the weights."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.001)

    def get_targets(self, sampling_results: list[SamplingResult], batch_gt_instances: list[InstanceData],
                    rcnn_train_cfg: ConfigDict) -> Tensor:
        """Return the masks inside the positive boxes of all images, (n, ``mask_size``, ``mask_size``) of 0 and 1."""
        masks = [objects.masks for objects in batch_gt_instances]
        boxes = [result.pos_priors for result in sampling_results]
        matched = [result.pos_assigned_gt_inds for result in sampling_results]
        if not all(isinstance(each, PolygonMasks) for each in masks):
            return torch.cat([mask_target([box], [index], [mask], rcnn_train_cfg)
                              for box, index, mask in zip(boxes, matched, masks, strict=True)])
        if all(isinstance(result, DeferredSamples) for result in sampling_results):
            parts = [(result.host_boxes[:len(result.host_gt_inds)], result.host_gt_inds) for result in sampling_results]
        else:
            # one copy to the host for all images; float32 holds the number of an object exactly
            rows = torch.cat([torch.cat([box.float(), index.float()[:, None]], 1)
                              for box, index in zip(boxes, matched)])
            parts = [(part[:, :4], part[:, 4].astype(int))
                     for part in np.split(rows.cpu().numpy(), np.cumsum([len(box) for box in boxes])[:-1])]
        inside = [polygons_in_boxes(mask, box, index.tolist(), rcnn_train_cfg.mask_size)
                  for mask, (box, index) in zip(masks, parts, strict=True)]
        return to_device(torch.from_numpy(np.concatenate(inside)), boxes[0].device).float()

    def predict_by_feat(self, mask_preds: tuple[Tensor, ...], results_list: list[InstanceData],
                        batch_img_metas: list[dict], rcnn_test_cfg: ConfigDict, *args: Any,
                        **kwargs: Any) -> list[InstanceData]:
        """Add ``masks`` (n, H, W), and ``mask_scores`` (n,) with ``maskness_thr``, to the results of every image."""
        results_list = super().predict_by_feat(mask_preds, results_list, batch_img_metas, rcnn_test_cfg, *args,
                                               **kwargs)
        threshold = rcnn_test_cfg.get('maskness_thr')
        if threshold is not None:
            for logits, found in zip(mask_preds, results_list, strict=True):
                found.mask_scores = found.scores
                if len(found):
                    chosen = logits[:, 0] if self.class_agnostic else logits[range(len(found)), found.labels]
                    found.mask_scores = found.scores * maskness(chosen, threshold)
        return results_list


def maskness(logits: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the mean probability of the pixels that belong to a mask (SOLO, arXiv 1912.04488, section 4).

    Args:
        logits: (n, height, width).
        threshold: Pixels with a higher probability belong to the mask.

    Returns:
        (n,); 0 for a mask without pixels.
    """
    probabilities = logits.float().sigmoid()
    inside = probabilities > threshold
    return (probabilities * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)


def polygons_in_boxes(masks: PolygonMasks, boxes: np.ndarray, indices: Sequence[int],
                      mask_size: int | tuple[int, int]) -> np.ndarray:
    """Draw one object inside each box.

    Args:
        masks: Objects as polygons, x y x y ... in pixels.
        boxes: (n, 4) x1 y1 x2 y2 in pixels.
        indices: The object of each box.
        mask_size: Height and width of the result, or one number for both.

    Returns:
        uint8 (n, height, width): 1 inside the object.
    """
    height, width = (mask_size, mask_size) if isinstance(mask_size, int) else mask_size
    drawn = np.zeros((len(boxes), height, width), dtype=np.uint8)
    for target, box, index in zip(drawn, boxes, indices, strict=True):
        scale_x = width / max(box[2] - box[0], SMALLEST_SIDE)
        scale_y = height / max(box[3] - box[1], SMALLEST_SIDE)
        scaled = []
        for polygon in masks.masks[index]:
            polygon = np.array(polygon, dtype=np.float64)
            polygon[0::2] = (polygon[0::2] - box[0]) * scale_x
            polygon[1::2] = (polygon[1::2] - box[1]) * scale_y
            scaled.append(polygon)
        parts = pycocotools.mask.frPyObjects(scaled, height, width)
        target[:] = pycocotools.mask.decode(pycocotools.mask.merge(parts))
    return drawn
