"""One-to-many Hungarian matching for DETRs whose duplicates are removed by non-maximum suppression."""

from __future__ import annotations

from typing import Any

import torch
from mmdet.models.task_modules.assigners import AssignResult, HungarianAssigner
from mmdet.registry import TASK_UTILS
from mmengine.structures import InstanceData


@TASK_UTILS.register_module()
class RepeatedHungarianAssigner(HungarianAssigner):
    """mmdet's ``HungarianAssigner`` with every object repeated, so that several queries learn from it.

    Hybrid matching (H-DETR, arXiv 2207.13080, section 3.2) repeats the objects for additional queries. Here all queries
    are matched in this way, and NMS removes the duplicates at inference, as in DETA (arXiv 2212.06137). A short
    training then has several times as many positive queries.

    Args:
        copies: How often each object is repeated; less if there are not enough queries for all objects.
        **kwargs: ``match_costs`` of mmdet's class.
    """

    def __init__(self, copies: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.copies = copies

    def assign(self, pred_instances: InstanceData, gt_instances: InstanceData, img_meta: dict | None = None,
               **kwargs: Any) -> AssignResult:
        """Assign each query to one object or to the background.

        Args:
            pred_instances: n predictions with the fields of the match costs, such as ``bboxes`` (n, 4) and ``scores``.
            gt_instances: k objects with ``bboxes`` (k, 4) and ``labels`` (k,).
            img_meta: Sizes of the image.
            **kwargs: Passed on.

        Returns:
            ``gt_inds`` (n,): index of the object + 1, or 0 for the background; each object has ``copies`` queries.
        """
        count = len(gt_instances)
        copies = min(self.copies, len(pred_instances) // count) if count else 1
        if copies <= 1:
            return super().assign(pred_instances, gt_instances, img_meta, **kwargs)
        order = torch.arange(count, device=gt_instances.labels.device).repeat(copies)
        found = super().assign(pred_instances, gt_instances[order], img_meta, **kwargs)
        found.num_gts = count
        found.gt_inds = torch.where(found.gt_inds > 0, (found.gt_inds - 1) % count + 1, found.gt_inds)
        return found
