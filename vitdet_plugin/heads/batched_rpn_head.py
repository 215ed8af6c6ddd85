"""Region proposal network that treats all images of a batch at once and waits for the GPU once in a training step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mmdet.models.dense_heads import RPNHead
from mmdet.models.losses import CrossEntropyLoss, L1Loss, SmoothL1Loss
from mmdet.models.task_modules.assigners import MaxIoUAssigner
from mmdet.models.task_modules.prior_generators import anchor_inside_flags
from mmdet.registry import MODELS
from mmdet.structures.bbox import BaseBoxes
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData
from torch import Tensor

from vitdet_plugin.heads.box_deltas import decode, encode, is_served
from vitdet_plugin.heads.box_losses import regression_loss
from vitdet_plugin.heads.deferred_sampler import DeferredRandomSampler, draw_samples, take
from vitdet_plugin.heads.detectron2_assigner import Detectron2Assigner
from vitdet_plugin.heads.overrides import keeps
from vitdet_plugin.heads.transfers import to_device
from vitdet_plugin.ops.nms import nms_of_images


@MODELS.register_module()
class BatchedRPNHead(RPNHead):
    """mmdet's ``RPNHead`` with the same weights, losses and proposals.

    The losses are computed for the sampled anchors only; mmdet computes them for all anchors, most of them with a
    weight of 0. The host waits once for the GPU, for the numbers of proposals; mmdet waits about 20 times for each
    image. With other samplers, losses or box coders than those of R-CNN, and in a class that overrides a method of
    mmdet's targets, losses or proposals, mmdet's code runs.
    """

    def loss_by_feat(self, cls_scores: list[Tensor], bbox_preds: list[Tensor], batch_gt_instances: list[InstanceData],
                     batch_img_metas: list[dict],
                     batch_gt_instances_ignore: list[InstanceData | None] | None = None) -> dict[str, list[Tensor]]:
        """Compute the losses of the sampled anchors.

        Args:
            cls_scores: Logits (B, A, H, W) of each level.
            bbox_preds: Box deltas (B, 4 A, H, W) of each level.
            batch_gt_instances: Objects of each image: ``bboxes`` (n, 4) and ``labels`` (n,).
            batch_img_metas: ``pad_shape`` of each image.
            batch_gt_instances_ignore: Boxes to ignore, for the assigner.

        Returns:
            ``loss_rpn_cls`` and ``loss_rpn_bbox``, lists of one tensor.
        """
        ignored = batch_gt_instances_ignore or [None] * len(batch_img_metas)
        if not self.has_batched_losses(batch_gt_instances):
            return super().loss_by_feat(cls_scores, bbox_preds, batch_gt_instances, batch_img_metas, ignored)
        gt_inds, anchors = self._assign(cls_scores, batch_gt_instances, batch_img_metas, ignored)
        sampler, last = self.sampler, len(anchors) - 1
        positive, negative, positives, negatives = draw_samples(
            gt_inds, sampler.num, sampler.num_expected_positive, sampler.neg_pos_ub)
        average = sampler.avg_factor(positives, negatives)

        is_positive = torch.arange(positive.shape[1], device=gt_inds.device) < positives[:, None]
        is_negative = torch.arange(negative.shape[1], device=gt_inds.device) < negatives[:, None]
        positive, negative = positive.clamp(max=last), negative.clamp(max=last)
        logits = _of_all_levels(cls_scores, 1)[..., 0].gather(1, torch.cat([positive, negative], 1))
        factor = self.train_cfg['pos_weight'] if self.train_cfg['pos_weight'] > 0 else 1.0
        weights = torch.cat([is_positive * factor, is_negative.float()], 1)
        targets = torch.cat([torch.ones_like(positive), torch.zeros_like(negative)], 1)
        loss_cls = self.loss_cls(logits.flatten(), targets.flatten(), weights.flatten(), avg_factor=average)

        objects, index = _matched_objects(batch_gt_instances, gt_inds.gather(1, positive), is_positive, anchors)
        boxes = anchors[positive]
        # the deltas of slots that are not used are not finite if the boxes have no area
        goals = encode(self.bbox_coder, boxes, torch.where(is_positive[..., None], objects[index], boxes))
        deltas = take(_of_all_levels(bbox_preds, 4), positive)
        goal_weights = is_positive[..., None].expand_as(goals).float()
        loss_bbox = regression_loss(self.loss_bbox, deltas, goals, goal_weights, average)
        return dict(loss_rpn_cls=[loss_cls], loss_rpn_bbox=[loss_bbox])

    def has_batched_losses(self, batch_gt_instances: list[InstanceData]) -> bool:
        """Whether losses are computed for the sampled anchors only, with these objects of each image."""
        loss_cls = self.loss_cls
        return (keeps(self, RPNHead, 'loss_by_feat_single', 'get_targets', '_get_targets_single', 'get_anchors')
                and is_served(self.bbox_coder) and not self.reg_decoded_bbox
                and isinstance(self.sampler, DeferredRandomSampler) and not self.sampler.add_gt_as_proposals
                and type(self.assigner) in (Detectron2Assigner, MaxIoUAssigner)
                and type(loss_cls) is CrossEntropyLoss and loss_cls.use_sigmoid and loss_cls.class_weight is None
                and loss_cls.ignore_index is None and type(self.loss_bbox) in (L1Loss, SmoothL1Loss)
                and not any(isinstance(each.bboxes, BaseBoxes) for each in batch_gt_instances))

    def predict_by_feat(self, cls_scores: list[Tensor], bbox_preds: list[Tensor], score_factors: Any = None,
                        batch_img_metas: list[dict] | None = None, cfg: ConfigDict | None = None,
                        rescale: bool = False, with_nms: bool = True) -> list[InstanceData]:
        """Return the proposals of each image: ``bboxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,) of zeros."""
        settings = self.test_cfg if cfg is None else cfg
        limits = [settings.get('nms_pre', -1)] * len(cls_scores)
        counts = [min(k, n) if k > 0 else n for k, n in zip(limits, (level[0].numel() for level in cls_scores))]
        if (not self.training or not keeps(self, RPNHead, '_predict_by_feat_single', '_bbox_post_process')
                or rescale or not with_nms or not is_served(self.bbox_coder) or not self.use_sigmoid_cls
                or not {'type', 'iou_threshold'} >= set(settings.nms) or settings.nms.get('type', 'nms') != 'nms'):
            return super().predict_by_feat(cls_scores, bbox_preds, score_factors, batch_img_metas, cfg, rescale,
                                           with_nms)
        with torch.no_grad():
            return self._propose(cls_scores, bbox_preds, batch_img_metas or [], settings, counts)

    def _assign(self, cls_scores: list[Tensor], objects: list[InstanceData], metas: list[dict],
                ignored: list[InstanceData | None]) -> tuple[Tensor, Tensor]:
        """Objects of the anchors (B, m), as ``AssignResult.gt_inds``, and the anchors (m, 4)."""
        sizes, device = [level.shape[-2:] for level in cls_scores], cls_scores[0].device
        anchors = torch.cat(self.prior_generator.grid_priors(sizes, device=device))
        found = []
        for i, meta in enumerate(metas):
            inside = self._inside(sizes, anchors, meta)
            if inside is None:
                found.append(self.assigner.assign(InstanceData(priors=anchors), objects[i], ignored[i]).gt_inds)
                continue
            # boxes without area overlap nothing
            priors = InstanceData(priors=anchors.masked_fill(~inside[:, None], 0.0))
            found.append(self.assigner.assign(priors, objects[i], ignored[i]).gt_inds.masked_fill(~inside, -1))
        return torch.stack(found), anchors

    def _inside(self, sizes: list[torch.Size], anchors: Tensor, meta: dict) -> Tensor | None:
        """(m,) bool, the anchors that are used for an image, None for all."""
        border = self.train_cfg['allowed_border']
        covers = self._covers(sizes, meta['pad_shape'])
        if covers and border < 0:
            return None
        inside = torch.ones_like(anchors[:, 0], dtype=torch.bool) if covers else torch.cat(
            self.prior_generator.valid_flags(sizes, meta['pad_shape'], anchors.device)).bool()
        return anchor_inside_flags(anchors, inside, meta['img_shape'], border)

    def _covers(self, sizes: list[torch.Size], pad_shape: tuple[int, ...]) -> bool:
        """Whether an image covers all cells of the feature maps."""
        height, width = pad_shape[:2]
        return all(-(-height // stride[1]) >= size[0] and -(-width // stride[0]) >= size[1]
                   for size, stride in zip(sizes, self.prior_generator.strides))

    def _propose(self, cls_scores: list[Tensor], bbox_preds: list[Tensor], metas: list[dict], cfg: ConfigDict,
                 counts: list[int]) -> list[InstanceData]:
        images, device = len(metas), cls_scores[0].device
        priors = self.prior_generator.grid_priors([level.shape[-2:] for level in cls_scores], device=device)
        anchors, deltas, scores = [], [], []
        for level, count in enumerate(counts):
            score = _flat(cls_scores[level].float(), 1)[..., 0].sigmoid()
            delta, anchor = _flat(bbox_preds[level].float(), 4), priors[level].expand(images, -1, -1)
            if count < score.shape[1]:
                score, best = score.topk(count)
                delta, anchor = take(delta, best), priors[level][best]
            anchors.append(anchor)
            deltas.append(delta)
            scores.append(score)
        sizes = torch.tensor([[meta['img_shape'][1], meta['img_shape'][0]] for meta in metas], dtype=torch.float32)
        boxes = decode(self.bbox_coder, torch.cat(anchors, 1), torch.cat(deltas, 1), to_device(sizes, device)[:, None])
        score, smallest = torch.cat(scores, 1), cfg.get('min_bbox_size', -1)
        valid = torch.ones_like(score, dtype=torch.bool)
        if smallest >= 0:
            valid = (boxes[..., 2:] - boxes[..., :2] > smallest).all(-1)
        # as mmcv's batched_nms: the boxes of a level are moved away from those of the others
        shift = boxes.masked_fill(~valid[..., None], 0.0).amax((1, 2)) + 1
        levels = torch.cat([torch.full((count,), float(level), device=device) for level, count in enumerate(counts)])
        order, kept = nms_of_images(boxes + (levels * shift[:, None])[..., None], score.masked_fill(~valid, -1.0),
                                    float(np.float32(cfg.nms.iou_threshold)))
        kept &= valid.gather(1, order)
        ranked = order.gather(1, (~kept).byte().argsort(dim=1, stable=True)[:, :cfg.max_per_img])
        numbers = kept.sum(1).clamp(max=cfg.max_per_img).tolist()  # the only wait for the GPU
        boxes, score = take(boxes, ranked), score.gather(1, ranked)
        return [InstanceData(bboxes=boxes[i, :n], scores=score[i, :n], labels=torch.zeros_like(ranked[i, :n]))
                for i, n in enumerate(numbers)]


def _matched_objects(objects: list[InstanceData], gt_inds: Tensor, is_positive: Tensor,
                     anchors: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes of all images (N, 4), N > 0, and the rows of those of the positive slots (B, P)."""
    counts = [len(each.bboxes) for each in objects]
    starts = torch.tensor([sum(counts[:i]) for i in range(len(counts))])
    boxes = torch.cat([*(each.bboxes for each in objects), anchors[:1]])
    rows = gt_inds - 1 + to_device(starts, gt_inds.device)[:, None]
    return boxes, rows.masked_fill(~is_positive, len(boxes) - 1)


def _of_all_levels(levels: list[Tensor], channels: int) -> Tensor:
    """(B, m, channels), in the order of the anchors, from (B, A channels, H, W) of each level."""
    return torch.cat([_flat(level, channels) for level in levels], 1)


def _flat(level: Tensor, channels: int) -> Tensor:
    return level.permute(0, 2, 3, 1).reshape(len(level), -1, channels)

