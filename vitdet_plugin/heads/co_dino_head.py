"""The query head of Co-DINO (arXiv 2211.12860): DINO's, with losses of customized queries."""

from __future__ import annotations

from typing import Any

from mmdet.registry import MODELS
from torch import Tensor

from vitdet_plugin.heads.co_positives import CustomizedTargets
from vitdet_plugin.heads.dino_head import OriginalDINOHead


@MODELS.register_module()
class CoDINOHead(OriginalDINOHead):
    """DINO's head that also trains queries with known targets."""

    def loss_customized(self, hidden_states: Tensor, references: list[Tensor], targets: CustomizedTargets,
                        metas: list[dict]) -> dict[str, Tensor]:
        """Return classification, L1 and IoU losses of every decoder layer, without matching.

        Args:
            hidden_states: (layers, B, Q, C).
            references: Reference points (B, Q, 4) of the first layer, then those of every layer's result.
            targets: Targets of the Q queries.
            metas: Metadata of the images, with ``img_shape``.
        """
        losses = {}
        scores, boxes = self(hidden_states, references)
        for i, (layer_scores, layer_boxes) in enumerate(zip(scores, boxes, strict=True)):
            found = self.loss_by_feat_single(layer_scores, layer_boxes, batch_gt_instances=targets,
                                             batch_img_metas=metas)
            prefix = '' if i == len(scores) - 1 else f'd{i}.'
            losses.update({f'{prefix}query_loss_{name}': value
                           for name, value in zip(('cls', 'bbox', 'iou'), found, strict=True)})
        return losses

    def get_targets(self, cls_scores_list: list[Tensor], bbox_preds_list: list[Tensor], batch_gt_instances: Any,
                    batch_img_metas: list[dict]) -> tuple:
        """Return known targets as they are; those of other queries are found by matching."""
        if isinstance(batch_gt_instances, CustomizedTargets):
            return batch_gt_instances.as_dino_targets()
        return super().get_targets(cls_scores_list, bbox_preds_list, batch_gt_instances, batch_img_metas)
