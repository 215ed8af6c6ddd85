"""Detectors as a whole in a form that can be exported: proposals, boxes, suppression and masks with fixed sizes.

mmdet's own post-processing makes tensors whose length depends on the picture. Here every step keeps its length: what
is dropped has the score 0, and the output has a fixed number of rows, best first, the rest of which is empty.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.cascade_roi_head import ViTDetCascadeRoIHead

_MOST_CANDIDATES = 4096  # boxes with a class that a second stage hands to suppression


class OneStage(nn.Module):
    """Maps of a picture (1, C, H, W) to ``boxes`` (N, 4), ``scores`` (N,), ``labels`` (N,); N is ``max_per_img``.

    For mmdet's anchor heads with one score a class (RetinaNet) and YOLOv5's head.
    """

    output_names = ('boxes', 'scores', 'labels')

    def __init__(self, head: nn.Module, test_cfg: Any) -> None:
        super().__init__()
        self.head, self.cfg = head, test_cfg
        self.is_yolo = hasattr(head, 'decode') and hasattr(head, 'anchors')

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        if self.is_yolo:
            boxes, scores, labels = self._yolo_candidates(maps)
            threshold, limit = self.cfg.get('iou_threshold', 0.45), self.cfg.get('max_per_img', 300)
        else:
            boxes, scores, labels, _ = anchor_candidates(self.head, maps, image_hw, self.cfg)
            threshold, limit = self.cfg['nms']['iou_threshold'], self.cfg['max_per_img']
        return best_after_nms(boxes, scores, labels, threshold, limit)

    def _yolo_candidates(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        found, least = self.head.decode(*self.head(maps))[0], self.cfg.get('score_thr', 0.25)
        corners = torch.cat((found[:, :2] - found[:, 2:4] / 2, found[:, :2] + found[:, 2:4] / 2), 1)
        scores = above(found[:, 5:] * above(found[:, 4:5], least), least)
        if not self.cfg.get('multi_label', False):
            best, labels = scores.max(1)
            scores, places = top(best, self.cfg.get('nms_pre', 30_000))
            return corners[places], scores, labels[places]
        scores, pairs = top(scores.flatten(), self.cfg.get('nms_pre', 30_000))
        classes = self.head.num_classes
        return corners[torch.div(pairs, classes, rounding_mode='floor')], scores, pairs % classes


class TwoStage(nn.Module):
    """As :class:`OneStage`, by an RPN and RoI heads; with a mask head also ``masks`` (N, m, m) over the boxes."""

    def __init__(self, rpn: nn.Module, roi: nn.Module, rpn_cfg: Any, test_cfg: Any) -> None:
        super().__init__()
        self.rpn, self.roi, self.rpn_cfg, self.cfg = rpn, roi, rpn_cfg, test_cfg
        self.output_names = ('boxes', 'scores', 'labels', *(['masks'] if roi.with_mask else ()))

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        boxes, scores, _, levels = anchor_candidates(self.rpn, maps, image_hw, self.rpn_cfg)
        proposals, objectness, _ = best_after_nms(boxes, scores, levels, self.rpn_cfg['nms']['iou_threshold'],
                                                  self.rpn_cfg['max_per_img'])
        scores, refined, head = self._stages(maps, proposals, image_hw)
        scores = above(scores[:, :-1] * (objectness > 0)[:, None], self.cfg['score_thr'])
        scores, pairs = top(scores.flatten(), _MOST_CANDIDATES)
        rows, labels = torch.div(pairs, head.num_classes, rounding_mode='floor'), pairs % head.num_classes
        chosen = refined[rows, torch.zeros_like(labels) if head.reg_class_agnostic else labels]
        found = best_after_nms(chosen, scores, labels, self.cfg['nms']['iou_threshold'], self.cfg['max_per_img'])
        return (*found, self._masks(maps, *found[::2])) if self.roi.with_mask else found

    def _stages(self, maps: tuple[Tensor, ...], boxes: Tensor,
                image_hw: tuple[int, int]) -> tuple[Tensor, Tensor, nn.Module]:
        """Probabilities (n, K + 1) and boxes (n, 1 or K, 4) of the last stage, and its head."""
        logits, heads = [], as_list(self.roi.bbox_head)
        for extractor, head in zip(as_list(self.roi.bbox_roi_extractor), heads, strict=True):
            out, deltas = head(crop(extractor, maps, boxes))
            logits.append(out)
            anchors = boxes[:, None].expand(-1, deltas.shape[1] // 4, -1).flatten(0, 1)
            refined = decode(head.bbox_coder, anchors, deltas.reshape(-1, 4), image_hw).view(len(boxes), -1, 4)
            best = out[:, :-1].argmax(1)
            boxes = refined[torch.arange(len(boxes)), torch.zeros_like(best) if head.reg_class_agnostic else best]
        if isinstance(self.roi, ViTDetCascadeRoIHead):
            return torch.stack([each.softmax(1) for each in logits]).mean(0), refined, heads[-1]
        return torch.stack(logits).mean(0).softmax(1), refined, heads[-1]

    def _masks(self, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities (n, m, m) over each box, of its class; mean of all mask heads."""
        pairs = zip(as_list(self.roi.mask_roi_extractor), as_list(self.roi.mask_head), strict=True)
        masks = torch.stack([head(crop(extractor, maps, boxes)).sigmoid() for extractor, head in pairs]).mean(0)
        place = torch.zeros_like(labels) if masks.shape[1] == 1 else labels.clamp(min=0)
        return masks[torch.arange(len(masks)), place]


def whole_detector(model: nn.Module) -> nn.Module:
    """What follows the neck of a detector, ready for export.

    Raises:
        UserError: Heads of a kind that is not known here, or a suppression other than plain NMS.
    """
    from mmdet.models.dense_heads import AnchorHead, RetinaHead, RPNHead
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
    roi, test_cfg = getattr(model, 'roi_head', None), model.test_cfg
    if roi is None:
        head = model.bbox_head
        if not (hasattr(head, 'decode') or type(head).forward_single in (RetinaHead.forward_single,
                                                                         AnchorHead.forward_single)):
            raise _unknown(type(head).__name__)
        _check_nms(test_cfg)
        return OneStage(head, test_cfg)
    if type(roi) not in (StandardRoIHead, CascadeRoIHead, ViTDetCascadeRoIHead) or type(model.rpn_head) is not RPNHead:
        raise _unknown(f'{type(model.rpn_head).__name__} and {type(roi).__name__}')
    if any(head.custom_activation for head in as_list(roi.bbox_head)):
        raise _unknown(f'{type(as_list(roi.bbox_head)[0].loss_cls).__name__} scores')
    _check_nms(test_cfg.rpn)
    _check_nms(test_cfg.rcnn)
    return TwoStage(model.rpn_head, roi, test_cfg.rpn, test_cfg.rcnn)


def _unknown(name: str) -> UserError:
    return UserError(f'a detector with {name} cannot be exported whole (Faster, Mask and Cascade R-CNN, RetinaNet and '
                     'YOLOv5 can); --features writes its backbone and neck')


def _check_nms(cfg: Any) -> None:
    if 'nms' in cfg and cfg['nms'].get('type', 'nms') != 'nms':
        raise UserError(f'suppression by {cfg["nms"]["type"]} cannot be exported; set it to nms')


def anchor_candidates(head: nn.Module, maps: tuple[Tensor, ...], image_hw: tuple[int, int],
                      cfg: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best ``nms_pre`` boxes with a class of every level: boxes (M, 4), scores, labels and levels (M,)."""
    logits, deltas = head(maps)
    anchors = head.prior_generator.grid_priors([each.shape[-2:] for each in logits], dtype=maps[0].dtype,
                                               device=maps[0].device)
    classes, found = head.cls_out_channels, []
    for level, (scores, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
        scores = scores[0].permute(1, 2, 0).reshape(-1, classes)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(1)[:, :-1]
        count = scores.shape[1]
        scores, pairs = top(above(scores, cfg.get('score_thr', 0.0)).flatten(), cfg.get('nms_pre', -1))
        rows = torch.div(pairs, count, rounding_mode='floor')
        boxes = decode(head.bbox_coder, anchor[rows], delta[0].permute(1, 2, 0).reshape(-1, 4)[rows], image_hw)
        large = ((boxes[:, 2:] - boxes[:, :2]) > cfg.get('min_bbox_size', -1)).all(1)
        found.append((boxes, scores * large, pairs % count, torch.full_like(pairs, level)))
    return tuple(torch.cat(parts) for parts in zip(*found))


def best_after_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float,
                   most: int) -> tuple[Tensor, Tensor, Tensor]:
    """Suppression within each group, then the best ``most``, padded with rows of score 0 and group -1."""
    apart = boxes + (groups.to(boxes) * (boxes.max() + 1))[:, None]
    keep = torchvision.ops.nms(apart, scores, iou_threshold)
    alive = torch.zeros_like(scores).index_put((keep,), scores.new_ones(()))
    scores, places = top(scores * alive, most)
    missing = most - len(places)
    boxes = nn.functional.pad(boxes[places] * (scores > 0)[:, None], (0, 0, 0, missing))
    groups = torch.where(scores > 0, groups[places], -1)
    return boxes, nn.functional.pad(scores, (0, missing)), nn.functional.pad(groups, (0, missing), value=-1)


def crop(extractor: nn.Module, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """RoIAlign of every box on every level, of which the box's own is taken: (N, C, h, w)."""
    rois = torch.cat((torch.zeros_like(boxes[:, :1]), boxes), 1)
    levels = extractor.map_roi_levels(rois, extractor.num_inputs)
    found = None
    for level, (layer, feature) in enumerate(zip(extractor.roi_layers, maps)):
        cut = torchvision.ops.roi_align(feature, rois, layer.output_size, layer.spatial_scale, layer.sampling_ratio,
                                        layer.aligned)
        found = cut if found is None else torch.where((levels == level)[:, None, None, None], cut, found)
    return found


def decode(coder: nn.Module, anchors: Tensor, deltas: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Boxes (n, 4) inside the picture."""
    boxes = coder.decode(anchors, deltas, max_shape=image_hw)
    return getattr(boxes, 'tensor', boxes)


def as_list(modules: nn.Module) -> list[nn.Module]:
    """The stages of a cascade, or the one there is."""
    return list(modules) if isinstance(modules, nn.ModuleList) else [modules]


def above(scores: Tensor, least: float) -> Tensor:
    """Scores, with 0 for those that are not above ``least``."""
    return torch.where(scores > least, scores, torch.zeros_like(scores))


def top(scores: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The best ``most`` (all if that is not positive) of (n,), best first, and their places."""
    return scores.topk(min(most, len(scores)) if most > 0 else len(scores))
