"""YOLOv5's anchor-based head: boxes trained with CIoU, objectness trained towards the IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torchvision
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.heads.yolov5_assigner import Assigned, assign_level
from vitdet_plugin.heads.yolov5_coder import decode_map, decode_relative
from vitdet_plugin.heads.yolov5_loss import complete_iou, mean_bce
from vitdet_plugin.utils.arguments import (
    check_keys,
    check_lengths,
    check_positive,
    check_range,
    check_sizes,
    check_whole,
)

# of COCO at 640 pixels, finest level first
COCO_ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))
IOU_THRESHOLD, MAX_PER_IMG = 0.45, 300  # of predictions, unless test_cfg has them
_BALANCE: dict[int, tuple[float, ...]] = {3: (4.0, 1.0, 0.4)}
_BALANCE_OTHERWISE = (4.0, 1.0, 0.25, 0.06, 0.02)


@MODELS.register_module()
class YOLOv5Head(BaseDenseHead):
    """One 1x1 convolution per level; each of the A anchors of a cell predicts a box, objectness and class scores.

    Args:
        num_classes: Number of classes K. With a single class no class loss is computed.
        in_channels: Channels of the maps, finest first.
        anchors: (width, height) in pixels of each anchor of each level. Stored in the checkpoint, because AutoAnchor
            (:class:`vitdet_plugin.engine.auto_anchor.AutoAnchorHook`) may change them.
        strides: Strides of the maps.
        gains: Weights of the three losses ``box``, ``cls`` and ``obj``.
        scale_gains: Multiply all gains by 3 / levels, ``cls`` also by K / 80 and ``obj`` also by
            (img_size / 640) ** 2, as in YOLOv5's training.
        img_size: Side in pixels of the training images, for ``scale_gains``.
        balance: Weights of the objectness of each level; 4, 1, 0.4 by default for three levels.
        max_ratio: Largest ratio between the sides of an object and those of its anchor.
        label_smoothing: e; class targets become 1 - e / 2 and e / 2.
        cls_pos_weight: Weight of positive targets in the class loss.
        obj_pos_weight: Weight of positive targets in the objectness loss.
        focal_gamma: Exponent of the focal factor of both losses; 0 disables it.
        nominal_batch: Number of images by which the mean loss is multiplied; by default the images of this step on all
            ranks. With accumulated gradients, which mmengine averages, give the number of images of all steps.
        train_cfg: Not used.
        test_cfg: ``score_thr``, ``iou_threshold``, ``multi_label``, ``nms_pre``, ``max_per_img``.
        init_cfg: See mmengine's ``BaseModule``.
    """

    anchors: Tensor

    def __init__(self, num_classes: int, in_channels: Sequence[int], anchors: Sequence = COCO_ANCHORS,
                 strides: Sequence[int] = (8, 16, 32), gains: dict | None = None, scale_gains: bool = True,
                 img_size: int = 640, balance: Sequence[float] | None = None, max_ratio: float = 4.0,
                 label_smoothing: float = 0.0, cls_pos_weight: float = 1.0, obj_pos_weight: float = 1.0,
                 focal_gamma: float = 0.0, nominal_batch: int | None = None, train_cfg: dict | None = None,
                 test_cfg: dict | None = None, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        check_sizes(None, strides=strides)
        levels = len(strides)
        check_sizes(levels, in_channels=in_channels)
        check_lengths(levels, anchors=anchors)
        check_whole(1, num_classes=num_classes, img_size=img_size)
        if nominal_batch is not None:
            check_whole(1, nominal_batch=nominal_batch)
        check_positive(cls_pos_weight=cls_pos_weight, obj_pos_weight=obj_pos_weight)
        check_range(1, math.inf, max_ratio=max_ratio)
        check_range(0, math.inf, focal_gamma=focal_gamma)
        check_range(0, 1, label_smoothing=label_smoothing)
        if balance is not None:
            check_lengths(levels, balance=balance)
        self.num_classes, self.strides, self.img_size = num_classes, tuple(strides), img_size
        self.max_ratio, self.label_smoothing, self.focal_gamma = max_ratio, label_smoothing, focal_gamma
        self.cls_pos_weight, self.obj_pos_weight, self.nominal_batch = cls_pos_weight, obj_pos_weight, nominal_batch
        self.gains = dict(box=0.05, cls=0.5, obj=1.0)
        check_keys(tuple(self.gains), gains=gains)
        self.gains.update(gains or {})
        check_range(0, math.inf, **{f'gains.{name}': gain for name, gain in self.gains.items()})
        if scale_gains:
            scale = dict(box=1.0, cls=num_classes / 80, obj=(img_size / 640) ** 2)
            self.gains = {name: gain * scale[name] * 3 / levels for name, gain in self.gains.items()}
        self.balance = tuple(balance or _BALANCE.get(levels) or _BALANCE_OTHERWISE)[:levels]
        self.train_cfg, self.test_cfg = train_cfg, test_cfg or {}
        self._anchors = [[tuple(map(float, anchor)) for anchor in level] for level in anchors]
        if len({len(level) for level in self._anchors}) > 1 or any(
                len(anchor) != 2 or min(anchor) <= 0 for level in self._anchors for anchor in level):
            raise UserError(f'YOLOv5Head: anchors={anchors!r} must be (width, height), positive, equally many for '
                            'each level')
        self.register_buffer('anchors', torch.tensor(self._anchors))  # (levels, A, 2)
        self.num_anchors = self.anchors.shape[1]
        outputs = self.num_anchors * (5 + num_classes)
        self.convs = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for channels in in_channels)

    def init_weights(self) -> None:
        """Initialize the biases for 8 objects per 640 x 640 image and equally likely classes."""
        super().init_weights()
        with torch.no_grad():
            self.anchors.copy_(torch.tensor(self._anchors))
            for conv, stride in zip(self.convs, self.strides):
                assert isinstance(conv, nn.Conv2d) and conv.bias is not None
                conv.reset_parameters()
                bias = conv.bias.view(self.num_anchors, -1)
                bias[:, 4] += math.log(8 / (640 / stride) ** 2)
                bias[:, 5:] += math.log(0.6 / (self.num_classes - 0.99999))

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor]]:
        """Map features (B, C_i, H_i, W_i) to logits (B, A, H_i, W_i, 5 + K): box, objectness, classes."""
        maps = []
        for feature, conv in zip(x, self.convs, strict=True):
            out = conv(feature)
            batch, _, rows, columns = out.shape
            maps.append(out.view(batch, self.num_anchors, 5 + self.num_classes, rows, columns).permute(0, 1, 3, 4, 2))
        return (maps,)

    def loss_by_feat(self, pred_maps: Sequence[Tensor], batch_gt_instances: Sequence[InstanceData],
                     batch_img_metas: Sequence[dict],
                     batch_gt_instances_ignore: Sequence[InstanceData] | None = None) -> dict[str, Tensor]:
        """Compute ``loss_bbox``, ``loss_obj``, ``loss_cls`` for boxes (n, 4) x1, y1, x2, y2 in pixels of the input."""
        targets = []
        for i, instances in enumerate(batch_gt_instances):
            boxes = instances.bboxes
            boxes = getattr(boxes, 'tensor', boxes).to(torch.float32)
            center, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
            image = torch.full((len(boxes), 1), float(i), device=boxes.device)
            targets.append(torch.cat((image, instances.labels[:, None].to(boxes.dtype), center, size), 1))
        parts = self.loss_of_targets(pred_maps, torch.cat(targets))
        scale = self.nominal_batch or len(batch_gt_instances) * get_world_size()
        return {name: value * scale for name, value in parts.items()}

    def loss_of_targets(self, pred_maps: Sequence[Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Compute the losses with their gains, without the batch factor; in float32 also under autocast.

        Args:
            pred_maps: (B, A, H, W, 5 + K) for each level.
            targets: (n, 6) image, label, center x, center y, width, height in pixels.
        """
        sums: dict[str, Any] = dict.fromkeys(('box', 'obj', 'cls'), 0.0)
        with torch.autocast(pred_maps[0].device.type, enabled=False):
            for level, pred in enumerate(pred_maps):
                pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
                grid = pred.shape[2], pred.shape[3]
                assigned = assign_level(targets.to(pred.dtype), self.anchors[level], grid, self.strides[level],
                                        self.max_ratio)
                for name, value in self._loss_of_level(pred, assigned, self.balance[level]).items():
                    sums[name] = sums[name] + value
        names = dict(box='loss_bbox', obj='loss_obj', cls='loss_cls')
        return {names[part]: self.gains[part] * value for part, value in sums.items()}

    def _loss_of_level(self, pred: Tensor, assigned: Assigned, balance: float) -> dict[str, Tensor]:
        objectness = pred.new_zeros(pred.shape[:-1])
        box = classes = pred.sum() * 0
        if len(assigned.image):
            chosen = pred[assigned.image, assigned.anchor, assigned.row, assigned.column]
            iou = complete_iou(decode_relative(chosen[:, :4], assigned.anchor_size), assigned.box)
            box = (1 - iou).mean()
            _write_last(objectness, assigned, iou.detach().clamp(min=0))
            if self.num_classes > 1:
                target = torch.full_like(chosen[:, 5:], 0.5 * self.label_smoothing)
                target[torch.arange(len(target)), assigned.label] = 1 - 0.5 * self.label_smoothing
                classes = mean_bce(chosen[:, 5:], target, self.cls_pos_weight, self.focal_gamma)
        obj = mean_bce(pred[..., 4], objectness, self.obj_pos_weight, self.focal_gamma)
        return dict(box=box, obj=obj * balance, cls=classes)

    def decode(self, pred_maps: Sequence[Tensor]) -> Tensor:
        """Decode all levels, (B, N, 5 + K): center and size in pixels, objectness, class probabilities."""
        decoded = []
        for pred, anchors, stride in zip(pred_maps, self.anchors, self.strides, strict=True):
            pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
            decoded.append(torch.cat((decode_map(pred[..., :4], anchors, stride), pred[..., 4:].sigmoid()),
                                     -1).flatten(1, 3))
        return torch.cat(decoded, 1)

    def predict_by_feat(self, pred_maps: Sequence[Tensor], batch_img_metas: Sequence[dict],
                        cfg: dict | None = None, rescale: bool = False, with_nms: bool = True) -> list[InstanceData]:
        """Return ``bboxes`` (n, 4) x1, y1, x2, y2, ``scores`` and ``labels`` of each image, best first.

        With ``rescale`` the boxes are in pixels of the original image, without the letterbox, and clipped to it.
        """
        results = select_boxes(self.decode(pred_maps), **{**self.test_cfg, **(cfg or {})}, with_nms=with_nms)
        return [_to_original_image(found, meta) if rescale else found
                for found, meta in zip(results, batch_img_metas, strict=True)]


def _write_last(objectness: Tensor, assigned: Assigned, value: Tensor) -> None:
    """``objectness[image, anchor, row, column] = value``; the last of several values for an element is used."""
    position = ((assigned.image * objectness.shape[1] + assigned.anchor) * objectness.shape[2] + assigned.row) \
        * objectness.shape[3] + assigned.column
    order = torch.arange(len(position), device=position.device)
    last = position.new_full((objectness.numel(),), -1).scatter_reduce_(0, position, order, 'amax')
    position = (last >= 0).nonzero()[:, 0]
    objectness.view(-1)[position] = value[last[position]]


def select_boxes(decoded: Tensor, score_thr: float = 0.25, iou_threshold: float = IOU_THRESHOLD,
                 multi_label: bool = False, nms_pre: int = 30_000, max_per_img: int = MAX_PER_IMG,
                 with_nms: bool = True) -> list[InstanceData]:
    """Select scores above the threshold, then apply non-maximum suppression within each image and class.

    Args:
        decoded: (B, N, 5 + K), see :meth:`YOLOv5Head.decode`. A score is objectness times class probability.
        score_thr: Lowest score.
        iou_threshold: Boxes of one class that overlap more than this are suppressed.
        multi_label: Return a box once for every class above the threshold; otherwise only for its best class.
            YOLOv5 evaluates with True, score_thr 0.001 and iou_threshold 0.6.
        nms_pre: Most boxes per image before suppression.
        max_per_img: Most boxes per image after suppression.
        with_nms: Apply suppression.
    """
    num_classes = decoded.shape[2] - 5
    image, index = (decoded[..., 4] > score_thr).nonzero(as_tuple=True)
    found = decoded[image, index]
    scores = found[:, 5:] * found[:, 4:5]
    if multi_label and num_classes > 1:
        row, labels = (scores > score_thr).nonzero(as_tuple=True)
        scores = scores[row, labels]
    else:
        best, labels = scores.max(1) if num_classes else (scores, scores)
        row = (best > score_thr).nonzero()[:, 0]
        scores, labels = best[row], labels[row]
    image, boxes = image[row], found[row, :4]
    boxes = torch.cat((boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2), 1)
    order = scores.argsort(descending=True, stable=True)
    order = _first_of_each_image(order, image, nms_pre, len(decoded))
    boxes, scores, labels, image = boxes[order], scores[order], labels[order], image[order]
    if with_nms:
        keep = torchvision.ops.batched_nms(boxes, scores, image * num_classes + labels, iou_threshold)
        boxes, scores, labels, image = boxes[keep], scores[keep], labels[keep], image[keep]
    results = []
    for i in range(len(decoded)):
        chosen = (image == i).nonzero()[:max_per_img, 0] if with_nms else (image == i).nonzero()[:, 0]
        results.append(InstanceData(bboxes=boxes[chosen], scores=scores[chosen], labels=labels[chosen]))
    return results


def _first_of_each_image(order: Tensor, image: Tensor, limit: int, images: int) -> Tensor:
    """Keep the first ``limit`` entries of ``order`` of each image."""
    counts = torch.bincount(image, minlength=images)
    if not len(counts) or counts.max() <= limit:
        return order
    kept = [order[image[order] == i][:limit] for i in range(images)]
    return torch.cat(kept)


def _to_original_image(found: InstanceData, meta: dict) -> InstanceData:
    left, top = meta.get('letterbox_offset', (0, 0))
    boxes = found.bboxes - found.bboxes.new_tensor((left, top, left, top))
    boxes = boxes / boxes.new_tensor(meta['scale_factor']).repeat(2)
    rows, columns = meta['ori_shape'][:2]
    found.bboxes = torch.minimum(boxes.clamp(min=0), boxes.new_tensor((columns, rows, columns, rows)))
    return found
