"""Positive coordinates of auxiliary heads as queries of a decoder (Co-DETR, arXiv 2211.12860, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmdet.structures.bbox import bbox_xyxy_to_cxcywh
from torch import Tensor, nn


@dataclass
class Positives:
    """Positive anchors or proposals of one image, with the objects that they are assigned to.

    Attributes:
        boxes: (N, 4), corners in pixels.
        targets: Boxes of the objects, (N, 4), corners in pixels.
        labels: Classes of the objects, (N,).
    """

    boxes: Tensor
    targets: Tensor
    labels: Tensor


@dataclass
class CustomizedTargets:
    """Customized queries of a batch and their targets, which need no matching.

    Attributes:
        boxes: (B, Q, 4), center and size relative to the image, the reference points of the queries.
        targets: (B, Q, 4), center and size relative to the image; 0 for padding.
        labels: (B, Q); the number of classes for padding.
        is_real: (B, Q), False for padding.
    """

    boxes: Tensor
    targets: Tensor
    labels: Tensor
    is_real: Tensor

    def attention_mask(self, num_heads: int) -> Tensor:
        """Return (B * num_heads, Q, Q), True where real queries and padding would attend to each other."""
        mask = self.is_real[:, :, None] != self.is_real[:, None]
        return mask.repeat_interleave(num_heads, 0)

    def as_dino_targets(self) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], int, int]:
        """Return labels, their weights, boxes, their weights, and the numbers of positives and negatives."""
        real = self.is_real.to(self.targets.dtype)
        weights = real[..., None].expand_as(self.targets)
        return list(self.labels), list(real), list(self.targets), list(weights), int(self.is_real.sum()), 0


def collate_positives(positives: Sequence[Positives], image_shapes: Sequence[tuple[int, int]], num_classes: int,
                      limit: int) -> CustomizedTargets:
    """Collate the positives of each image; at most ``limit`` of an image are taken, by chance.

    Images with fewer positives, and batches without any, are padded with queries that have no loss.

    Args:
        positives: One entry for each image.
        image_shapes: Height and width of each image in pixels, without padding.
        num_classes: Number of classes.
        limit: Largest number of queries of an image.
    """
    length = max(1, min(limit, max(len(each.labels) for each in positives)))
    batch, like = len(positives), positives[0].boxes
    boxes, targets = like.new_full((batch, length, 4), 0.5), like.new_zeros(batch, length, 4)
    labels = positives[0].labels.new_full((batch, length), num_classes, dtype=torch.long)
    is_real = torch.zeros(batch, length, dtype=torch.bool, device=like.device)
    for i, (each, (height, width)) in enumerate(zip(positives, image_shapes, strict=True)):
        count = len(each.labels)
        kept = torch.randperm(count, device=like.device)[:limit] if count > limit else slice(None)
        size = like.new_tensor([width, height, width, height])
        count = min(count, limit)
        # proposals and anchors may reach beyond the image; reference points do not
        boxes[i, :count] = bbox_xyxy_to_cxcywh(each.boxes[kept] / size).clamp(0, 1)
        targets[i, :count] = bbox_xyxy_to_cxcywh(each.targets[kept] / size)
        labels[i, :count] = each.labels[kept]
        is_real[i, :count] = True
    return CustomizedTargets(boxes, targets, labels, is_real)


class PositionQuery(nn.Module):
    """Contents of a query from its box: ``LayerNorm(Linear(PE(box)))``.

    The paper (section 3.3) also adds the features at the coordinates; the authors' Co-DINO, and this, does not.

    Args:
        width: Channels of a query.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, boxes: Tensor) -> Tensor:
        """Convert boxes (B, Q, 4), center and size relative to the image, to queries (B, Q, width)."""
        return self.norm(self.proj(encode_boxes(boxes, self.proj.out_features // 2)))


def encode_boxes(boxes: Tensor, features: int, temperature: float = 10000.0) -> Tensor:
    """Encode x, y, width and height by sines and cosines in turn: (B, Q, 4) -> (B, Q, 4 * features)."""
    pairs = torch.arange(features // 2, device=boxes.device, dtype=boxes.dtype)
    angles = boxes[..., None] * 2 * math.pi / temperature ** (2 * pairs / features)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(2)
