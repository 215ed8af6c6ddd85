"""Faster, Mask and Cascade R-CNN with static shapes for export."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.candidates import anchor_candidates, decode, take, top_scores, zero_low_scores
from vitdet_plugin.export.pasting import paste
from vitdet_plugin.export.rows import batch_rois, put_rows, roi_features, used_rows
from vitdet_plugin.export.settings import check_counts, read_nms
from vitdet_plugin.export.suppression import best_after_nms
from vitdet_plugin.heads.cascade_roi_head import ViTDetCascadeRoIHead

_MAX_CANDIDATES = 4096  # pairs of a box and a class that the second stage passes to NMS


class TwoStage(nn.Module):
    """Convert feature maps to detections with an RPN and RoI heads.

    ``forward`` takes feature maps of shape ``(B, C, H, W)`` and the height and width of the images, and returns
    ``boxes`` of shape ``(B, N, 4)``, ``scores`` and ``labels`` of shape ``(B, N)``; N is ``max_per_img``. With a mask
    head there are also ``masks``: probabilities of shape ``(B, N, m, m)`` over the boxes, or pasted masks of shape
    ``(B, N, H, W)``.

    Args:
        rpn: The RPN head.
        roi: The RoI head.
        rpn_cfg: Test config of the RPN head.
        test_cfg: Test config of the RoI head.
        masks: 'boxes' or 'image'.
    """

    def __init__(self, rpn: nn.Module, roi: nn.Module, rpn_cfg: Any, test_cfg: Any, masks: str = 'boxes') -> None:
        super().__init__()
        self.rpn, self.roi, self.rpn_cfg, self.cfg, self.masks = rpn, roi, rpn_cfg, test_cfg, masks
        self.output_names = ('boxes', 'scores', 'labels', *(['masks'] if roi.with_mask else ()))
        self.rpn_nms, self.nms = read_nms(rpn_cfg, 'model.test_cfg.rpn'), read_nms(test_cfg, 'model.test_cfg.rcnn')
        check_counts(rpn_cfg, 'model.test_cfg.rpn', needs_nms_pre=False)
        check_counts(test_cfg, 'model.test_cfg.rcnn', needs_nms_pre=False)
        if masks == 'image' and roi.with_mask and not test_cfg.get('mask_thr_binary', -1) >= 0:
            raise UserError('pasted masks require a threshold. Set model.test_cfg.rcnn.mask_thr_binary to a number '
                            'from 0 to 1, for example 0.5, or export masks of boxes')

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        # mmdet's RPN has no score threshold
        boxes, scores, _, levels = anchor_candidates(self.rpn, maps, image_hw, {**self.rpn_cfg, 'score_thr': 0.0})
        proposals, objectness, _ = best_after_nms(boxes, scores, levels, self.rpn_nms, self.rpn_cfg['max_per_img'])
        scores, refined, head = self._stages(maps, proposals, used_rows(objectness), image_hw)
        scores = zero_low_scores(scores[..., :-1] * (objectness > 0)[..., None], self.cfg['score_thr'])
        scores, pairs = top_scores(scores.flatten(1), _MAX_CANDIDATES)
        rows, labels = torch.div(pairs, head.num_classes, rounding_mode='floor'), pairs % head.num_classes
        chosen = take(refined.flatten(1, 2), rows if head.reg_class_agnostic else pairs)
        boxes, scores, labels = best_after_nms(chosen, scores, labels, self.nms, self.cfg['max_per_img'])
        found = boxes, scores, labels
        return (*found, self._masks(maps, *found, image_hw)) if self.roi.with_mask else found

    def _stages(self, maps: tuple[Tensor, ...], proposals: Tensor, rows: Tensor,
                image_hw: tuple[int, int]) -> tuple[Tensor, Tensor, nn.Module]:
        """Return the results of the last stage and its head.

        Args:
            maps: Feature maps.
            proposals: Boxes of shape ``(B, N, 4)``.
            rows: Those that are computed, see :func:`used_rows`.
            image_hw: Height and width of the images.

        Returns:
            Probabilities ``(B, N, K + 1)`` and boxes ``(B, N, 1 or K, 4)``, 0 in all other rows; the head.
        """
        logits, heads = [], as_list(self.roi.bbox_head)
        rois = batch_rois(proposals, rows)
        for extractor, head in zip(as_list(self.roi.bbox_roi_extractor), heads, strict=True):
            out, deltas = head(roi_features(extractor, maps, rois))
            logits.append(out)
            deltas = deltas.unflatten(1, (-1, 4))
            refined = decode(head.bbox_coder, rois[:, None, 1:].expand(-1, deltas.shape[1], -1), deltas, image_hw)
            best = torch.zeros_like(rows) if head.reg_class_agnostic else out[:, :-1].argmax(1)
            rois = torch.cat((rois[:, :1], take(refined, best[:, None])[:, 0]), 1)
        scores = torch.stack([each.softmax(1) for each in logits]).mean(0) if isinstance(
            self.roi, ViTDetCascadeRoIHead) else torch.stack(logits).mean(0).softmax(1)
        batch, number = proposals.shape[:2]
        return put_rows(scores, rows, batch, number), put_rows(refined, rows, batch, number), heads[-1]

    def _masks(self, maps: tuple[Tensor, ...], boxes: Tensor, scores: Tensor, labels: Tensor,
               image_hw: tuple[int, int]) -> Tensor:
        """Return the masks of each box for its class, the mean of all mask heads, ``(B, N, m, m)`` or pasted."""
        rows, (batch, number) = used_rows(scores), scores.shape
        rois = batch_rois(boxes, rows)
        pairs = zip(as_list(self.roi.mask_roi_extractor), as_list(self.roi.mask_head), strict=True)
        masks = torch.stack([head(roi_features(extractor, maps, rois)).sigmoid() for extractor, head in pairs]).mean(0)
        channel = torch.zeros_like(rows) if masks.shape[1] == 1 else labels.flatten()[rows].clamp(min=0)
        masks = masks.gather(1, channel[:, None, None, None].expand(-1, 1, *masks.shape[2:]))[:, 0]
        if self.masks == 'image':
            masks = paste(masks, rois[:, 1:], image_hw, self.cfg['mask_thr_binary'])
        return put_rows(masks, rows, batch, number)


def as_list(modules: nn.Module) -> list[nn.Module]:
    """Return the stages of a cascade as a list; a single module becomes a list of one."""
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]
