"""R-CNN head that returns its positive proposals (Co-DETR, arXiv 2211.12860)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from vitdet_plugin.heads.batched_roi_head import BatchedRoIHead
from vitdet_plugin.heads.co_positives import Positives


@MODELS.register_module()
class CoStandardRoIHead(BatchedRoIHead):
    """``BatchedRoIHead`` as an auxiliary head of Co-DETR."""

    def loss_and_positives(self, maps: tuple[Tensor, ...], proposals: list[Any],
                           samples: Sequence[Any]) -> tuple[dict[str, Any], list[Positives]]:
        """Return the losses, and the positive proposals of each image.

        Args:
            maps: (B, C, H, W) for each level.
            proposals: Proposals of each image.
            samples: Annotated samples of the batch.
        """
        losses = self.loss(maps, proposals, samples)
        return losses, self.__dict__.pop('_positives')

    def bbox_loss(self, x: tuple[Tensor, ...], sampling_results: list[Any]) -> dict[str, Any]:
        """Compute the losses of the sampled proposals; the positive ones are kept."""
        results = super().bbox_loss(x, sampling_results)
        self._positives = [Positives(each.pos_priors, each.pos_gt_bboxes, each.pos_gt_labels)
                           for each in sampling_results]
        return results
