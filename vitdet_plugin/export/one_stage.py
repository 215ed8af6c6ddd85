"""RetinaNet, FCOS, ATSS, RTMDet and YOLOv5 with static shapes for export."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from vitdet_plugin.export.candidates import anchor_candidates, yolo_candidates
from vitdet_plugin.export.settings import NmsSettings, check_counts, read_nms
from vitdet_plugin.export.suppression import best_after_nms

_YOLO_DEFAULTS = dict(score_thr=0.25, iou_threshold=0.45, multi_label=False, nms_pre=30_000, max_per_img=300)


class OneStage(nn.Module):
    """Convert feature maps to detections with a dense head of mmdet or YOLOv5's head.

    ``forward`` takes feature maps of shape ``(B, C, H, W)`` and the height and width of the images, and returns
    ``boxes`` of shape ``(B, N, 4)``, ``scores`` and ``labels`` of shape ``(B, N)``; N is ``max_per_img``.

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
            boxes, scores, labels = yolo_candidates(self.head, maps, self.cfg)
        else:
            boxes, scores, labels, _ = anchor_candidates(self.head, maps, image_hw, self.cfg)
        return best_after_nms(boxes, scores, labels, self.nms, self.limit)


def is_dense_head(head: nn.Module) -> bool:
    """Whether :func:`anchor_candidates` computes what the head of mmdet predicts."""
    from mmdet.models.dense_heads import (
        AnchorHead,
        ATSSHead,
        FCOSHead,
        RetinaHead,
        RTMDetHead,
        RTMDetSepBNHead,
    )
    is_anchor_head = getattr(type(head), 'forward_single', None) in (RetinaHead.forward_single,
                                                                     AnchorHead.forward_single)
    has_own_scores = getattr(getattr(head, 'loss_cls', None), 'custom_cls_channels', False)
    return not has_own_scores and (is_anchor_head or type(head) in (FCOSHead, ATSSHead, RTMDetHead, RTMDetSepBNHead))
