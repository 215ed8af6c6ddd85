"""Detection heads with static shapes for export: proposals, boxes, NMS and masks.

The post-processing of mmdet creates tensors whose length depends on the image. The modules here keep all lengths
fixed: removed entries have a score of 0, and outputs have a fixed number of rows, highest score first, padded with
empty rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.settings import NmsSettings, check_counts, read_nms
from vitdet_plugin.heads.cascade_roi_head import ViTDetCascadeRoIHead

_YOLO_DEFAULTS = dict(score_thr=0.25, iou_threshold=0.45, multi_label=False, nms_pre=30_000, max_per_img=300)
_MAX_CANDIDATES = 4096  # pairs of a box and a class that the second stage passes to NMS


class OneStage(nn.Module):
    """Convert feature maps to detections with mmdet's anchor heads (RetinaNet) or YOLOv5's head.

    ``forward`` takes feature maps of shape ``(1, C, H, W)`` and the height and width of the image, and returns
    ``boxes`` of shape ``(N, 4)``, ``scores`` of shape ``(N,)`` and ``labels`` of shape ``(N,)``; N is ``max_per_img``.

    Args:
        head: The dense head.
        test_cfg: Its test config.
    """

    output_names = ('boxes', 'scores', 'labels')

    def __init__(self, head: nn.Module, test_cfg: Any) -> None:
        super().__init__()
        self.head, self.cfg = head, test_cfg
        self.is_yolo = hasattr(head, 'decode') and hasattr(head, 'anchors')
        if self.is_yolo:
            self.cfg = {**_YOLO_DEFAULTS, **(test_cfg or {})}
            check_counts(self.cfg, 'model.test_cfg', needs_nms_pre=True)
            self.nms = NmsSettings(self.cfg['iou_threshold'])
        else:
            self.nms = read_nms(test_cfg, 'model.test_cfg')
            check_counts(test_cfg, 'model.test_cfg', needs_nms_pre=True)
        self.limit = self.cfg['max_per_img']

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        if self.is_yolo:
            boxes, scores, labels = self._yolo_candidates(maps)
        else:
            boxes, scores, labels, _ = anchor_candidates(self.head, maps, image_hw, self.cfg)
        return best_after_nms(boxes, scores, labels, self.nms, self.limit)

    def _yolo_candidates(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        found, least = self.head.decode(*self.head(maps))[0], self.cfg['score_thr']
        corners = torch.cat((found[:, :2] - found[:, 2:4] / 2, found[:, :2] + found[:, 2:4] / 2), 1)
        scores = zero_low_scores(found[:, 5:] * zero_low_scores(found[:, 4:5], least), least)
        if not self.cfg['multi_label']:
            best, labels = scores.max(1)
            scores, indices = top_scores(best, self.cfg['nms_pre'])
            return corners[indices], scores, labels[indices]
        scores, pairs = top_scores(scores.flatten(), self.cfg['nms_pre'])
        classes = self.head.num_classes
        return corners[torch.div(pairs, classes, rounding_mode='floor')], scores, pairs % classes


class TwoStage(nn.Module):
    """Convert feature maps to detections with an RPN and RoI heads.

    The inputs and outputs are those of :class:`OneStage`; with a mask head there are also ``masks`` of shape
    ``(N, m, m)`` over the boxes.

    Args:
        rpn: The RPN head.
        roi: The RoI head.
        rpn_cfg: Test config of the RPN head.
        test_cfg: Test config of the RoI head.
    """

    def __init__(self, rpn: nn.Module, roi: nn.Module, rpn_cfg: Any, test_cfg: Any) -> None:
        super().__init__()
        self.rpn, self.roi, self.rpn_cfg, self.cfg = rpn, roi, rpn_cfg, test_cfg
        self.output_names = ('boxes', 'scores', 'labels', *(['masks'] if roi.with_mask else ()))
        self.rpn_nms, self.nms = read_nms(rpn_cfg, 'model.test_cfg.rpn'), read_nms(test_cfg, 'model.test_cfg.rcnn')
        check_counts(rpn_cfg, 'model.test_cfg.rpn', needs_nms_pre=False)
        check_counts(test_cfg, 'model.test_cfg.rcnn', needs_nms_pre=False)

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        # mmdet's RPN has no score threshold
        boxes, scores, _, levels = anchor_candidates(self.rpn, maps, image_hw, {**self.rpn_cfg, 'score_thr': 0.0})
        proposals, objectness, _ = best_after_nms(boxes, scores, levels, self.rpn_nms, self.rpn_cfg['max_per_img'])
        scores, refined, head = self._stages(maps, proposals, image_hw)
        scores = zero_low_scores(scores[:, :-1] * (objectness > 0)[:, None], self.cfg['score_thr'])
        scores, pairs = top_scores(scores.flatten(), _MAX_CANDIDATES)
        rows, labels = torch.div(pairs, head.num_classes, rounding_mode='floor'), pairs % head.num_classes
        chosen = refined[rows, torch.zeros_like(labels) if head.reg_class_agnostic else labels]
        found = best_after_nms(chosen, scores, labels, self.nms, self.cfg['max_per_img'])
        return (*found, self._masks(maps, *found[::2])) if self.roi.with_mask else found

    def _stages(self, maps: tuple[Tensor, ...], boxes: Tensor,
                image_hw: tuple[int, int]) -> tuple[Tensor, Tensor, nn.Module]:
        """Return the probabilities ``(N, K + 1)`` and boxes ``(N, 1 or K, 4)`` of the last stage, and its head."""
        logits, heads = [], as_list(self.roi.bbox_head)
        for extractor, head in zip(as_list(self.roi.bbox_roi_extractor), heads, strict=True):
            out, deltas = head(roi_features(extractor, maps, boxes))
            logits.append(out)
            anchors = boxes[:, None].expand(-1, deltas.shape[1] // 4, -1).flatten(0, 1)
            refined = decode(head.bbox_coder, anchors, deltas.reshape(-1, 4), image_hw).view(len(boxes), -1, 4)
            best = out[:, :-1].argmax(1)
            boxes = refined[torch.arange(len(boxes)), torch.zeros_like(best) if head.reg_class_agnostic else best]
        if isinstance(self.roi, ViTDetCascadeRoIHead):
            return torch.stack([each.softmax(1) for each in logits]).mean(0), refined, heads[-1]
        return torch.stack(logits).mean(0).softmax(1), refined, heads[-1]

    def _masks(self, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """Return the mask probabilities of each box for its class, the mean of all mask heads, of shape (N, m, m)."""
        pairs = zip(as_list(self.roi.mask_roi_extractor), as_list(self.roi.mask_head), strict=True)
        masks = torch.stack([head(roi_features(extractor, maps, boxes)).sigmoid() for extractor, head in pairs]).mean(0)
        channel = torch.zeros_like(labels) if masks.shape[1] == 1 else labels.clamp(min=0)
        return masks[torch.arange(len(masks)), channel]


def exportable_heads(model: nn.Module) -> nn.Module:
    """Build the exportable form of the heads of a detector.

    Args:
        model: A detector of mmdet.

    Returns:
        A :class:`OneStage` or :class:`TwoStage` module.

    Raises:
        UserError: If the heads are not supported, or settings of their ``test_cfg`` cannot be followed.
    """
    from mmdet.models.dense_heads import AnchorHead, RetinaHead, RPNHead
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
    roi = getattr(model, 'roi_head', None)
    if roi is None:
        head = model.bbox_head
        if not (hasattr(head, 'decode') or getattr(type(head), 'forward_single', None) in (
                RetinaHead.forward_single, AnchorHead.forward_single)):
            raise _unsupported(type(head).__name__)
        return OneStage(head, head.test_cfg)
    if type(roi) not in (StandardRoIHead, CascadeRoIHead, ViTDetCascadeRoIHead) or type(model.rpn_head) is not RPNHead:
        raise _unsupported(f'{type(model.rpn_head).__name__} and {type(roi).__name__}')
    if any(head.custom_activation for head in as_list(roi.bbox_head)):
        raise _unsupported(f'{type(as_list(roi.bbox_head)[0].loss_cls).__name__} scores')
    return TwoStage(model.rpn_head, roi, model.rpn_head.test_cfg, roi.test_cfg)


def _unsupported(name: str) -> UserError:
    return UserError(f'export of a detector with {name} is not supported (supported: Faster, Mask and Cascade R-CNN, '
                     'RetinaNet, YOLOv5). Use --features to export its backbone and neck.')


def anchor_candidates(head: nn.Module, maps: tuple[Tensor, ...], image_hw: tuple[int, int],
                      cfg: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select the ``nms_pre`` pairs of a box and a class with the highest scores of each level.

    Args:
        head: A dense head of mmdet with anchors.
        maps: Feature maps of shape ``(1, C, H, W)``.
        image_hw: Height and width of the image in pixels.
        cfg: Test config of the head.

    Returns:
        Boxes of shape ``(M, 4)``; scores, labels and levels, each of shape ``(M,)``.
    """
    logits, deltas = head(maps)
    anchors = head.prior_generator.grid_priors([each.shape[-2:] for each in logits], dtype=maps[0].dtype,
                                               device=maps[0].device)
    classes, found = head.cls_out_channels, []
    for level, (scores, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
        scores = scores[0].permute(1, 2, 0).reshape(-1, classes)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(1)[:, :-1]
        count = scores.shape[1]
        scores, pairs = top_scores(zero_low_scores(scores, cfg.get('score_thr', 0.0)).flatten(),
                                   cfg.get('nms_pre', -1))
        rows = torch.div(pairs, count, rounding_mode='floor')
        boxes = decode(head.bbox_coder, anchor[rows], delta[0].permute(1, 2, 0).reshape(-1, 4)[rows], image_hw)
        large = ((boxes[:, 2:] - boxes[:, :2]) > cfg.get('min_bbox_size', -1)).all(1)
        found.append((boxes, scores * large, pairs % count, torch.full_like(pairs, level)))
    return tuple(torch.cat(parts) for parts in zip(*found))


def best_after_nms(boxes: Tensor, scores: Tensor, groups: Tensor, nms: NmsSettings,
                   count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Run NMS within each group and keep the boxes of highest score.

    Args:
        boxes: Boxes of shape ``(M, 4)``.
        scores: Scores of shape ``(M,)``; 0 marks removed boxes.
        groups: Group (class or level) of each box, of shape ``(M,)``.
        nms: Settings of the suppression.
        count: Number of rows of the outputs.

    Returns:
        Boxes of shape ``(count, 4)``, scores and groups of shape ``(count,)``, highest score first. Empty rows have
        score 0 and group -1.
    """
    scores = zero_low_scores(scores, nms.score_threshold)
    shifted = boxes if nms.class_agnostic else boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]  # apart
    keep = torchvision.ops.nms(shifted, scores, nms.iou_threshold)
    kept = torch.zeros_like(scores).index_put((keep,), scores.new_ones(()))
    scores, indices = top_scores(scores * kept, min(count, nms.max_num or count))
    missing = count - len(indices)
    boxes = nn.functional.pad(boxes[indices] * (scores > 0)[:, None], (0, 0, 0, missing))
    groups = torch.where(scores > 0, groups[indices], -1)
    return boxes, nn.functional.pad(scores, (0, missing)), nn.functional.pad(groups, (0, missing), value=-1)


def roi_features(extractor: nn.Module, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Extract RoI features of each box from the level that the extractor assigns to it.

    RoIAlign runs for every box on every level, as the number of boxes per level is not static.

    Args:
        extractor: ``SingleRoIExtractor`` of mmdet.
        maps: Feature maps of shape ``(1, C, H, W)``.
        boxes: Boxes of shape ``(N, 4)``.

    Returns:
        Features of shape ``(N, C, h, w)``.
    """
    rois = torch.cat((torch.zeros_like(boxes[:, :1]), boxes), 1)
    levels = extractor.map_roi_levels(rois, extractor.num_inputs)
    found = None
    for level, (layer, feature) in enumerate(zip(extractor.roi_layers, maps)):
        crops = torchvision.ops.roi_align(feature, rois, layer.output_size, layer.spatial_scale, layer.sampling_ratio,
                                          layer.aligned)
        found = crops if found is None else torch.where((levels == level)[:, None, None, None], crops, found)
    return found


def decode(coder: nn.Module, anchors: Tensor, deltas: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Decode box deltas of shape ``(N, 4)`` and clip the boxes to the image."""
    boxes = coder.decode(anchors, deltas, max_shape=image_hw)
    return getattr(boxes, 'tensor', boxes)


def as_list(modules: nn.Module) -> list[nn.Module]:
    """Return the stages of a cascade as a list; a single module becomes a list of one."""
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def zero_low_scores(scores: Tensor, threshold: float) -> Tensor:
    """Replace scores that are not above ``threshold`` by 0."""
    return torch.where(scores > threshold, scores, torch.zeros_like(scores))


def top_scores(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the ``count`` highest scores in decreasing order and their indices; all if ``count`` is not positive."""
    return scores.topk(min(count, len(scores)) if count > 0 else len(scores))
