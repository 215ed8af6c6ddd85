"""Cascade R-CNN as in detectron2's ViTDet (arXiv 1712.00726; ViTDet arXiv 2203.16527)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.models.utils import empty_instances
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures.bbox import bbox2roi
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from vitdet_plugin.heads.batched_cascade_head import BatchedCascadeRoIHead
from vitdet_plugin.heads.batched_roi_head import are_deferred, positive_features
from vitdet_plugin.heads.overrides import keeps
from vitdet_plugin.heads.transfers import to_device


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.factor, None


@MODELS.register_module()
class ViTDetCascadeRoIHead(BatchedCascadeRoIHead):
    """Cascade RoI head with one mask head.

    Differences from mmdet's ``CascadeRoIHead``:

    - one mask head, trained on the positive samples of the first stage and applied to the boxes of the last stage;
    - equal weights for the losses of all stages;
    - the gradient of the RoI features is scaled by 1 / ``num_stages``;
    - probabilities instead of logits are averaged over the stages;
    - refined ground-truth boxes are kept as proposals; boxes without area are dropped.

    The later stages use every refined box, so their samplers should be ``dict(type='DeferredPseudoSampler')``.

    Args:
        num_stages: Number of box heads.
        stage_loss_weights: Weight of each stage's losses; 1 for every stage by default.
        **kwargs: See mmdet's ``CascadeRoIHead``.
    """

    def __init__(self, num_stages: int = 3, stage_loss_weights: Sequence[float] | None = None, **kwargs: Any) -> None:
        super().__init__(num_stages, stage_loss_weights or [1.0] * num_stages, **kwargs)

    def init_mask_head(self, mask_roi_extractor: dict, mask_head: dict) -> None:
        """Build one extractor and one head for all stages."""
        self.mask_roi_extractor = MMDET_MODELS.build(mask_roi_extractor)
        self.mask_head = MMDET_MODELS.build(mask_head)

    def _bbox_features(self, stage: int, x: tuple[Tensor, ...], rois: Tensor, on_host: np.ndarray | None) -> Tensor:
        return _ScaleGradient.apply(super()._bbox_features(stage, x, rois, on_host), 1.0 / self.num_stages)

    def _mask_forward(self, x: tuple[Tensor, ...], rois: Tensor) -> dict[str, Tensor]:
        extractor = self.mask_roi_extractor
        return dict(mask_preds=self.mask_head(extractor(x[:extractor.num_inputs], rois)))

    def _mask_losses(self, stage: int, x: tuple[Tensor, ...], samples: list,
                     gt_instances: list[InstanceData]) -> dict[str, Tensor]:
        """``loss_mask`` of the first stage's samples."""
        if stage:
            return {}
        if are_deferred(samples) and keeps(self, ViTDetCascadeRoIHead, '_mask_forward'):
            preds = self.mask_head(positive_features(self.mask_roi_extractor, x, samples))
        else:
            preds = self._mask_forward(x, bbox2roi([sample.pos_priors for sample in samples]))['mask_preds']
        losses: dict[str, Tensor] = self.mask_head.loss_and_target(preds, samples, gt_instances,
                                                                   self.train_cfg[0])['loss_mask']
        return losses

    def _next_proposals(self, stage: int, results: dict, samples: list, img_metas: list[dict]) -> list[InstanceData]:
        """Refined boxes of each image, those of objects included, without boxes that have no area."""
        counts = [len(sample.pos_priors) + len(sample.neg_priors) for sample in samples]
        refined = self._refine(stage, results['rois'], results, img_metas, counts)
        return [InstanceData(bboxes=boxes) for boxes in _with_area(refined)]

    def _refine_roi(self, x: tuple[Tensor, ...], rois: Tensor, batch_img_metas: list[dict],
                    num_proposals_per_img: Sequence[int], **kwargs: Any) -> tuple:
        """Run all stages; per image, the RoIs and deltas of the last stage and scores of the mean probabilities."""
        stage_probabilities = []
        for stage in range(self.num_stages):
            results = self._bbox_forward(stage, x, rois)
            stage_probabilities.append(_activate(self.bbox_head[stage], results['cls_score']))
            if stage + 1 < self.num_stages:
                boxes = self._refine(stage, rois, results, batch_img_metas, num_proposals_per_img)
                rois = bbox2roi(boxes)
        mean = torch.stack(stage_probabilities).mean(0)
        scores = _deactivate(self.bbox_head[-1], mean)
        return (rois.split(num_proposals_per_img), scores.split(num_proposals_per_img),
                results['bbox_pred'].split(num_proposals_per_img))

    def predict_mask(self, x: tuple[Tensor, ...], batch_img_metas: list[dict], results_list: list[InstanceData],
                     rescale: bool = False) -> list[InstanceData]:
        """Add ``masks`` (n, H, W) to the instances of every image."""
        rois = bbox2roi([res.bboxes for res in results_list])
        if not len(rois):
            return empty_instances(batch_img_metas, rois.device, task_type='mask', instance_results=results_list,
                                   mask_thr_binary=self.test_cfg.mask_thr_binary)
        preds = self._mask_forward(x, rois)['mask_preds'].split([len(res) for res in results_list])
        return self.mask_head.predict_by_feat(preds, results_list, batch_img_metas, self.test_cfg, rescale=rescale)

    def forward(self, x: tuple[Tensor, ...], rpn_results_list: list[InstanceData], batch_data_samples: list) -> tuple:
        """Return class scores, box deltas and mask logits of the refined boxes, without post-processing."""
        proposals = [res.bboxes for res in rpn_results_list]
        metas = [sample.metainfo for sample in batch_data_samples]
        rois, scores, deltas = self._refine_roi(x, bbox2roi(proposals), metas, [len(p) for p in proposals])
        if not self.with_mask:
            return scores, deltas
        return scores, deltas, self._mask_forward(x, torch.cat(rois))['mask_preds']


def _with_area(boxes: list[Tensor]) -> list[Tensor]:
    """Drop the boxes without area of each image, (n, 4) each; the host waits once for all images."""
    together = torch.cat(boxes)
    has_area = (together[:, 2:] > together[:, :2]).all(1).cpu()
    if has_area.numpy().all():
        return boxes
    return [each[to_device(kept.nonzero()[:, 0], each.device)]
            for each, kept in zip(boxes, has_area.split([len(each) for each in boxes]), strict=True)]


def _activate(head: Any, scores: Tensor) -> Tensor:
    return head.loss_cls.get_activation(scores) if head.custom_activation else scores.float().softmax(-1)


def _deactivate(head: Any, probabilities: Tensor) -> Tensor:
    """Invert the activation that ``predict_by_feat`` applies to the scores."""
    return head.loss_cls.invert_activation(probabilities) if head.custom_activation else probabilities.log()
