"""Cascade RoI head that waits for the GPU once for the samples of all images of a stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmdet.models.roi_heads import CascadeRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.utils import unpack_gt_instances
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from vitdet_plugin.heads.batched_roi_head import are_deferred, positive_features
from vitdet_plugin.heads.box_deltas import decode, is_served
from vitdet_plugin.heads.box_losses import loss_and_targets
from vitdet_plugin.heads.deferred_sampler import resolve, take
from vitdet_plugin.heads.overrides import keeps
from vitdet_plugin.heads.roi_features import extract, in_float32, rois_on_host
from vitdet_plugin.heads.transfers import to_device
from vitdet_plugin.heads.weighted_losses import weighted_losses


@MODELS.register_module()
class BatchedCascadeRoIHead(CascadeRoIHead):
    """mmdet's ``CascadeRoIHead`` with the same weights, losses and proposals of each stage.

    The samples of all images of a stage are copied to the host at once, if their sampler is a
    ``DeferredRandomSampler``. With other samplers, and in a class that overrides ``_bbox_forward`` or
    ``_mask_forward``, mmdet's code runs.
    """

    def loss(self, x: tuple[Tensor, ...], rpn_results_list: list[InstanceData], batch_data_samples: list) -> dict:
        """Compute the losses of all stages, ``s0.loss_cls`` to ``s2.loss_mask``."""
        gt_instances, gt_ignored, img_metas = unpack_gt_instances(batch_data_samples)
        losses, proposals, x = {}, rpn_results_list, in_float32(x)
        for stage in range(self.num_stages):
            self.current_stage: int = stage
            samples = self._assign_and_sample(stage, x, proposals, gt_instances, gt_ignored)
            results = self.bbox_loss(stage, x, samples)
            losses.update(self._weighted(stage, results['loss_bbox']))
            if self.with_mask:
                losses.update(self._mask_losses(stage, x, samples, gt_instances))
            if stage + 1 < self.num_stages:
                following = self._next_proposals(stage, results, samples, img_metas)
                if following is None:
                    break
                proposals = following
        return losses

    def _weighted(self, stage: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses and accuracies under the names of a stage."""
        return {f's{stage}.{name}': value
                for name, value in weighted_losses(losses, self.stage_loss_weights[stage]).items()}

    def _mask_losses(self, stage: int, x: tuple[Tensor, ...], samples: list,
                     gt_instances: list[InstanceData]) -> dict[str, Tensor]:
        return self._weighted(stage, self.mask_loss(stage, x, samples, gt_instances)['loss_mask'])

    def bbox_loss(self, stage: int, x: tuple[Tensor, ...], sampling_results: list) -> dict[str, Any]:
        """Compute the losses of a stage; waits for the GPU once, if the samples are deferred."""
        if not are_deferred(sampling_results) or not keeps(self, BatchedCascadeRoIHead, '_bbox_forward'):
            return super().bbox_loss(stage, x, sampling_results)
        resolve(sampling_results)
        on_host = rois_on_host([each.host_boxes for each in sampling_results])
        rois = to_device(torch.from_numpy(on_host), x[0].device)
        results: dict[str, Any] = self._bbox_forward(stage, x, rois, on_host)
        return results | dict(rois=rois) | loss_and_targets(
            self.bbox_head[stage], results['cls_score'], results['bbox_pred'], rois, sampling_results,
            self.train_cfg[stage])

    def mask_loss(self, stage: int, x: tuple[Tensor, ...], sampling_results: list,
                  batch_gt_instances: list[InstanceData]) -> dict[str, Any]:
        """Compute the loss of the mask head of a stage."""
        if not are_deferred(sampling_results) or not keeps(self, CascadeRoIHead, '_mask_forward'):
            return super().mask_loss(stage, x, sampling_results, batch_gt_instances)
        head = self.mask_head[stage]
        mask_preds = head(positive_features(self.mask_roi_extractor[stage], x, sampling_results))
        return dict(mask_preds=mask_preds) | head.loss_and_target(mask_preds, sampling_results, batch_gt_instances,
                                                                  self.train_cfg[stage])

    def _bbox_forward(self, stage: int, x: tuple[Tensor, ...], rois: Tensor,
                      on_host: np.ndarray | None = None) -> dict[str, Tensor]:
        features = self._bbox_features(stage, x, rois, on_host)
        cls_score, bbox_pred = self.bbox_head[stage](features)
        return dict(cls_score=cls_score, bbox_pred=bbox_pred, bbox_feats=features)

    def _bbox_features(self, stage: int, x: tuple[Tensor, ...], rois: Tensor, on_host: np.ndarray | None) -> Tensor:
        extractor = self.bbox_roi_extractor[stage]
        if on_host is not None:
            return extract(extractor, x, rois, on_host)
        features: Tensor = extractor(x[:extractor.num_inputs], rois)
        return features

    def _assign_and_sample(self, stage: int, x: tuple[Tensor, ...], proposals: list[InstanceData],
                           gt_instances: list[InstanceData], gt_ignored: list[InstanceData | None]) -> list:
        samples = []
        for i, boxes in enumerate(proposals):
            boxes.priors = boxes.pop('bboxes')
            assigned = self.bbox_assigner[stage].assign(boxes, gt_instances[i], gt_ignored[i])
            samples.append(self.bbox_sampler[stage].sample(
                assigned, boxes, gt_instances[i], feats=[level[i][None] for level in x]))
        return samples

    def _next_proposals(self, stage: int, results: dict, samples: list,
                        img_metas: list[dict]) -> list[InstanceData] | None:
        """Refined boxes of each image without samples that are objects themselves; None ends the stages."""
        if not len(results['rois']):
            return None  # as mmdet
        head = self.bbox_head[stage]
        if not are_deferred(samples) or not _decodes_here(head):
            with torch.no_grad():
                found: list[InstanceData] = head.refine_bboxes(samples, results, img_metas)
            return found
        labels = results['bbox_targets'][0]
        best = results['cls_score'][:, :head.num_classes].argmax(1)
        labels = torch.where(labels == head.num_classes, best, labels)
        boxes = torch.cat(self._refine(stage, results['rois'], results, img_metas,
                                       [len(each.host_boxes) for each in samples], labels))
        is_object = [np.pad(each.host_is_object, (0, len(each.host_boxes) - len(each.host_is_object)))
                     for each in samples]
        rows = to_device(torch.from_numpy(np.flatnonzero(~np.concatenate(is_object))), boxes.device)
        return [InstanceData(bboxes=each)
                for each in boxes[rows].split([int((~each).sum()) for each in is_object])]

    @torch.no_grad()
    def _refine(self, stage: int, rois: Tensor, results: dict, img_metas: list[dict], counts: Sequence[int],
                labels: Tensor | None = None) -> list[Tensor]:
        """Decode this stage's boxes and clip them to their images.

        Args:
            stage: Number of the box head.
            rois: (n, 5).
            results: ``cls_score`` and ``bbox_pred``.
            img_metas: ``img_shape`` of each image.
            counts: Numbers of boxes of each image.
            labels: (n,), the classes whose deltas are used; those of the highest scores by default.

        Returns:
            One (n, 4) tensor for each image.
        """
        head = self.bbox_head[stage]
        if labels is None:
            labels = results['cls_score'][:, :head.num_classes].argmax(1)
        if _decodes_here(head):
            deltas = results['bbox_pred'].float().view(len(rois), -1, 4)
            deltas = deltas[:, 0] if head.reg_class_agnostic else take(deltas, labels[:, None])[:, 0]
            sizes = np.array([meta['img_shape'][1::-1] for meta in img_metas], np.float32).reshape(-1, 2)
            limits = to_device(torch.from_numpy(np.repeat(sizes, counts, 0)), rois.device)
            return list(decode(head.bbox_coder, rois[:, 1:], deltas, limits).split(list(counts)))
        return [head.regress_by_class(boxes[:, 1:], label, deltas, meta) for boxes, label, deltas, meta in zip(
            rois.split(counts), labels.split(counts), results['bbox_pred'].split(counts), img_metas, strict=True)]


def _decodes_here(head: BBoxHead) -> bool:
    """Whether :func:`decode` gives the boxes that a box head refines."""
    return is_served(head.bbox_coder) and keeps(head, BBoxHead, 'refine_bboxes', 'regress_by_class')
