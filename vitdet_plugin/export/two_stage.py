"""Faster, Mask and Cascade R-CNN with static shapes for export."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.candidates import anchor_candidates, decode, take, top_scores, zero_low_scores
from vitdet_plugin.export.pasting import paste
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
        scores, refined, head = self._stages(maps, proposals, image_hw)
        scores = zero_low_scores(scores[..., :-1] * (objectness > 0)[..., None], self.cfg['score_thr'])
        scores, pairs = top_scores(scores.flatten(1), _MAX_CANDIDATES)
        rows, labels = torch.div(pairs, head.num_classes, rounding_mode='floor'), pairs % head.num_classes
        chosen = take(refined.flatten(1, 2), rows if head.reg_class_agnostic else pairs)
        found = best_after_nms(chosen, scores, labels, self.nms, self.cfg['max_per_img'])
        if not self.roi.with_mask:
            return found
        masks = self._masks(maps, *found[::2])
        if self.masks == 'image':
            masks = paste(masks, found[0], image_hw, self.cfg['mask_thr_binary'])
        return (*found, masks)

    def _stages(self, maps: tuple[Tensor, ...], boxes: Tensor,
                image_hw: tuple[int, int]) -> tuple[Tensor, Tensor, nn.Module]:
        """Return the probabilities (B, N, K + 1) and boxes (B, N, 1 or K, 4) of the last stage, and its head."""
        logits, heads = [], as_list(self.roi.bbox_head)
        number = boxes.shape[1]
        for extractor, head in zip(as_list(self.roi.bbox_roi_extractor), heads, strict=True):
            out, deltas = (each.unflatten(0, (-1, number)) for each in head(roi_features(extractor, maps, boxes)))
            logits.append(out)
            kinds = deltas.shape[2] // 4
            anchors = boxes[:, :, None].expand(-1, -1, kinds, -1).flatten(1, 2)
            flat = decode(head.bbox_coder, anchors, deltas.unflatten(2, (kinds, 4)).flatten(1, 2), image_hw)
            refined, best = flat.unflatten(1, (number, kinds)), out[..., :-1].argmax(2)
            rows = torch.arange(number, device=best.device) * kinds
            boxes = take(flat, rows.expand_as(best) if head.reg_class_agnostic else rows + best)
        if isinstance(self.roi, ViTDetCascadeRoIHead):
            return torch.stack([each.softmax(2) for each in logits]).mean(0), refined, heads[-1]
        return torch.stack(logits).mean(0).softmax(2), refined, heads[-1]

    def _masks(self, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the mask probabilities of each box for its class, the mean of all mask heads, (B, N, m, m)."""
        pairs = zip(as_list(self.roi.mask_roi_extractor), as_list(self.roi.mask_head), strict=True)
        masks = torch.stack([head(roi_features(extractor, maps, boxes)).sigmoid() for extractor, head in pairs]).mean(0)
        channel = torch.zeros_like(labels) if masks.shape[1] == 1 else labels.clamp(min=0)
        chosen = masks.gather(1, channel.flatten()[:, None, None, None].expand(-1, 1, *masks.shape[2:]))
        return chosen[:, 0].unflatten(0, (-1, boxes.shape[1]))


def roi_features(extractor: nn.Module, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Extract RoI features of each box from the level that the extractor assigns to it.

    RoIAlign runs for every box on every level, as the number of boxes per level is not static.

    Args:
        extractor: ``SingleRoIExtractor`` of mmdet.
        maps: Feature maps of shape ``(B, C, H, W)``.
        boxes: Boxes of shape ``(B, N, 4)``.

    Returns:
        Features of shape ``(B * N, C, h, w)``.
    """
    images = torch.arange(boxes.shape[0], device=boxes.device).to(boxes)[:, None, None].expand(-1, boxes.shape[1], -1)
    rois = torch.cat((images, boxes), 2).flatten(0, 1)
    levels = extractor.map_roi_levels(rois, extractor.num_inputs)
    found = None
    for level, (layer, feature) in enumerate(zip(extractor.roi_layers, maps)):
        crops = torchvision.ops.roi_align(feature, rois, layer.output_size, layer.spatial_scale, layer.sampling_ratio,
                                          layer.aligned)
        found = crops if found is None else torch.where((levels == level)[:, None, None, None], crops, found)
    return found


def as_list(modules: nn.Module) -> list[nn.Module]:
    """Return the stages of a cascade as a list; a single module becomes a list of one."""
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]
