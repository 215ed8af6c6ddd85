"""ATSS head that returns its positive anchors (Co-DETR, arXiv 2211.12860)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmdet.models.dense_heads import ATSSHead
from mmdet.registry import MODELS
from torch import Tensor

from vitdet_plugin.heads.co_positives import Positives


@MODELS.register_module()
class CoATSSHead(ATSSHead):
    """mmdet's ``ATSSHead`` as an auxiliary head of Co-DETR."""

    def loss_and_positives(self, maps: tuple[Tensor, ...],
                           samples: Sequence[Any]) -> tuple[dict[str, Any], list[Positives]]:
        """Return the losses, and the positive anchors of each image.

        Args:
            maps: (B, C, H, W) for each level of the anchors.
            samples: Annotated samples of the batch.
        """
        self._positives: list[Positives] = []
        losses = self.loss(maps, samples)
        return losses, self.__dict__.pop('_positives')

    def _get_targets_single(self, *args: Any, **kwargs: Any) -> tuple:
        found = super()._get_targets_single(*args, **kwargs)
        if '_positives' in self.__dict__:
            result = found[-1]
            self._positives.append(Positives(result.pos_priors, result.pos_gt_bboxes, result.pos_gt_labels))
        return found
