"""RoI head that waits for the GPU once in a training step, for the samples of all images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from vitdet_plugin.heads.box_losses import loss_and_targets
from vitdet_plugin.heads.deferred_sampler import DeferredSamples, resolve
from vitdet_plugin.heads.overrides import keeps
from vitdet_plugin.heads.roi_features import extract, in_float32, rois_on_host
from vitdet_plugin.heads.transfers import to_device


@MODELS.register_module()
class BatchedRoIHead(StandardRoIHead):
    """mmdet's ``StandardRoIHead`` with the same weights and losses.

    The samples of all images are copied to the host at once, if their sampler is a ``DeferredRandomSampler``. Levels of
    the boxes, rows of positive samples and mask targets are found from that copy. With other samplers, a shared
    extractor or head, and in a class that overrides ``_bbox_forward`` or ``_mask_forward``, mmdet's code runs.
    """

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: list[InstanceData],
             batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Compute ``loss_cls``, ``loss_bbox`` and ``loss_mask``.

        Args:
            x: Maps (B, C, H, W) of each level.
            rpn_results_list: Proposals of each image.
            batch_data_samples: Objects of each image.
        """
        losses: dict[str, Tensor] = super().loss(in_float32(x), rpn_results_list, batch_data_samples)
        return losses

    def bbox_loss(self, x: tuple[Tensor, ...], sampling_results: list[Any]) -> dict[str, Any]:
        """Compute the losses of the box head.

        Args:
            x: Maps (B, C, H, W) of each level.
            sampling_results: Samples of each image.

        Returns:
            ``cls_score`` (n, classes + 1), ``bbox_pred``, ``bbox_feats`` and ``loss_bbox``, a dict.
        """
        if (not are_deferred(sampling_results) or self.with_shared_head
                or not keeps(self, StandardRoIHead, '_bbox_forward')):
            return super().bbox_loss(x, sampling_results)
        resolve(sampling_results)
        on_host = rois_on_host([each.host_boxes for each in sampling_results])
        rois = to_device(torch.from_numpy(on_host), x[0].device)
        features = extract(self.bbox_roi_extractor, x, rois, on_host)
        cls_score, bbox_pred = self.bbox_head(features)
        losses = loss_and_targets(self.bbox_head, cls_score, bbox_pred, rois, sampling_results, self.train_cfg)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=features, loss_bbox=losses['loss_bbox'])

    def mask_loss(self, x: tuple[Tensor, ...], sampling_results: list[Any], bbox_feats: Tensor,
                  batch_gt_instances: list[InstanceData]) -> dict[str, Any]:
        """Compute the loss of the mask head; arguments as for :meth:`bbox_loss`."""
        if (not are_deferred(sampling_results) or self.share_roi_extractor or self.with_shared_head
                or not keeps(self, StandardRoIHead, '_mask_forward')):
            return super().mask_loss(x, sampling_results, bbox_feats, batch_gt_instances)
        features = positive_features(self.mask_roi_extractor, x, sampling_results)
        mask_preds = self.mask_head(features)
        result = self.mask_head.loss_and_target(mask_preds, sampling_results, batch_gt_instances, self.train_cfg)
        return dict(mask_preds=mask_preds, mask_feats=features, loss_mask=result['loss_mask'])


def are_deferred(samples: Sequence[Any]) -> bool:
    """Whether the samples of all images can be copied to the host at once."""
    return all(isinstance(each, DeferredSamples) for each in samples)


def positive_features(extractor: Any, x: tuple[Tensor, ...], samples: Sequence[DeferredSamples]) -> Tensor:
    """Return the features (n, C, height, width) of the positive samples of all images."""
    on_host = rois_on_host([each.host_boxes[:len(each.host_gt_inds)] for each in samples])
    return extract(extractor, x, to_device(torch.from_numpy(on_host), x[0].device), on_host)
