"""Assignment of objects to anchors as in detectron2."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult, BaseAssigner
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import get_box_tensor
from mmengine.structures import InstanceData
from torch import Tensor


@TASK_UTILS.register_module()
class Detectron2Assigner(BaseAssigner):
    """Assign every box to the object that it overlaps most, as detectron2's ``Matcher``.

    A box is positive from an IoU of ``pos_iou_thr`` with that object, negative below ``neg_iou_thr`` and ignored in
    between. Differences from mmdet's ``MaxIoUAssigner`` with ``match_low_quality=True``:

    - the boxes with the highest IoU of each object are positive however low that IoU is. There is no ``min_pos_iou``;
    - such a box still belongs to the object that it overlaps most, not to the last object for which it is the best;
    - the IoUs of a few objects at a time are in memory, not those of all objects.

    An object that overlaps no box gets none. ``gt_instances_ignore`` is not used: detectron2 removes crowds beforehand.

    Args:
        pos_iou_thr: Lowest IoU of a positive box.
        neg_iou_thr: Boxes with a lower IoU are negative; at most ``pos_iou_thr``.
        match_low_quality: Make the best boxes of each object positive.
        max_elements: Largest number of IoUs in memory at a time, but at least those of one object. By default 2 ** 20
            on a CPU, which fits its cache, and 2 ** 24 elsewhere.
    """

    def __init__(self, pos_iou_thr: float, neg_iou_thr: float, match_low_quality: bool = True,
                 max_elements: int | None = None) -> None:
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_thr = neg_iou_thr
        self.match_low_quality = match_low_quality
        self.max_elements = max_elements

    @torch.no_grad()
    def assign(self, pred_instances: InstanceData, gt_instances: InstanceData,
               gt_instances_ignore: InstanceData | None = None, **kwargs: Any) -> AssignResult:
        """Assign the n objects of an image to m boxes.

        Args:
            pred_instances: ``priors`` of shape (m, 4), x1 y1 x2 y2 in pixels.
            gt_instances: ``bboxes`` of shape (n, 4) and ``labels`` of shape (n,).
            gt_instances_ignore: Not used.
            **kwargs: Not used.

        Returns:
            The result with ``gt_inds`` (m,): index of the object + 1, 0 for negative and -1 for ignored boxes.
        """
        boxes, objects = get_box_tensor(pred_instances.priors), get_box_tensor(gt_instances.bboxes)
        overlaps, matched, is_best = self._match(boxes, objects)
        gt_inds = torch.full_like(matched, -1)
        gt_inds = gt_inds.masked_fill(overlaps < self.neg_iou_thr, 0)
        positive = (overlaps >= self.pos_iou_thr) | is_best
        gt_inds = torch.where(positive, matched + 1, gt_inds)
        labels = torch.full_like(matched, -1)
        if len(objects):
            labels = torch.where(positive, gt_instances.labels[matched], labels)
        return AssignResult(num_gts=len(objects), gt_inds=gt_inds, max_overlaps=overlaps, labels=labels)

    def _match(self, boxes: Tensor, objects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Highest IoU of each box, the (first) object with it, and whether the box is the best of some object."""
        overlaps = boxes.new_zeros(len(boxes))
        matched = torch.zeros(len(boxes), dtype=torch.long, device=boxes.device)
        is_best = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
        if not len(boxes):
            return overlaps, matched, is_best
        corners = boxes.T.contiguous()
        limit = self.max_elements or (2 ** 20 if boxes.device.type == 'cpu' else 2 ** 24)
        step = max(1, limit // len(boxes))
        for start in range(0, len(objects), step):
            ious = _pairwise_iou(objects[start:start + step], corners)
            highest, index = ious.max(dim=0)
            matched = torch.where(highest > overlaps, index + start, matched)
            overlaps = torch.maximum(overlaps, highest)
            if self.match_low_quality:
                best = ious.amax(dim=1, keepdim=True)
                is_best |= ((ious == best) & (best > 0)).any(dim=0)
        return overlaps, matched, is_best


def _pairwise_iou(objects: Tensor, corners: Tensor) -> Tensor:
    """(n, m) IoUs of n objects (n, 4) and m boxes given as (4, m); 0 where the intersection is empty."""
    x1, y1, x2, y2 = objects.to(corners.dtype)[:, :, None].unbind(1)  # (n, 1) each
    areas = (corners[2] - corners[0]) * (corners[3] - corners[1])
    intersection = (torch.minimum(x2, corners[2]) - torch.maximum(x1, corners[0])).clamp_(min=0)
    intersection *= (torch.minimum(y2, corners[3]) - torch.maximum(y1, corners[1])).clamp_(min=0)
    union = (x2 - x1) * (y2 - y1) + areas - intersection
    # without area of both, the union is 0
    return intersection.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))
