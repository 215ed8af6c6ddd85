"""Boxes with scores from dense heads, in tensors whose length does not depend on the image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.utils.exporting import may_vary


def anchor_candidates(head: nn.Module, maps: tuple[Tensor, ...], image_hw: tuple[int, int],
                      cfg: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Select the ``nms_pre`` pairs of a box and a class with the highest scores of each level.

    If the head also estimates the quality of its boxes (FCOS, ATSS), the scores that are selected are multiplied by it.

    Args:
        head: A dense head of mmdet with anchors or points.
        maps: Feature maps of shape ``(B, C, H, W)``.
        image_hw: Height and width of the images in pixels.
        cfg: Test config of the head.

    Returns:
        Boxes of shape ``(B, M, 4)``; scores, labels and levels, each of shape ``(B, M)``.
    """
    logits, deltas, *factors = head(maps)
    anchors = head.prior_generator.grid_priors([each.shape[-2:] for each in logits], dtype=maps[0].dtype,
                                               device=maps[0].device)
    classes, found = head.cls_out_channels, []
    for level, (scores, delta, anchor) in enumerate(zip(logits, deltas, anchors, strict=True)):
        scores = rows_of(scores, classes)
        scores = scores.sigmoid() if head.use_sigmoid_cls else scores.softmax(2)[..., :-1]
        count = scores.shape[2]
        scores, pairs = top_scores(zero_low_scores(scores, cfg.get('score_thr', 0.0)).flatten(1),
                                   cfg.get('nms_pre', -1))
        rows = torch.div(pairs, count, rounding_mode='floor')
        boxes = decode(head.bbox_coder, anchor[rows], take(rows_of(delta, 4), rows), image_hw)
        if factors:
            scores = scores * take(rows_of(factors[0][level], 1), rows)[..., 0].sigmoid()
        large = ((boxes[..., 2:] - boxes[..., :2]) > cfg.get('min_bbox_size', -1)).all(2)
        found.append((boxes, scores * large, pairs % count, torch.full_like(pairs, level)))
    return tuple(torch.cat(parts, 1) for parts in zip(*found))


def yolo_candidates(head: nn.Module, maps: tuple[Tensor, ...], cfg: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Select the ``nms_pre`` boxes with the highest scores of YOLOv5's head.

    Args:
        head: The head.
        maps: Feature maps of shape ``(B, C, H, W)``.
        cfg: Test config of the head.

    Returns:
        Boxes of shape ``(B, M, 4)``; scores and labels, each of shape ``(B, M)``.
    """
    found, least = head.decode(*head(maps)), cfg['score_thr']
    corners = torch.cat((found[..., :2] - found[..., 2:4] / 2, found[..., :2] + found[..., 2:4] / 2), 2)
    scores = zero_low_scores(found[..., 5:] * zero_low_scores(found[..., 4:5], least), least)
    if not cfg['multi_label']:
        best, labels = scores.max(2)
        scores, rows = top_scores(best, cfg['nms_pre'])
        return take(corners, rows), scores, labels.gather(1, rows)
    scores, pairs = top_scores(scores.flatten(1), cfg['nms_pre'])
    return take(corners, torch.div(pairs, head.num_classes, rounding_mode='floor')), scores, pairs % head.num_classes


def rows_of(output: Tensor, columns: int) -> Tensor:
    """``(B, A * columns, H, W)`` of a dense head -> ``(B, H * W * A, columns)``."""
    anchors = output.shape[1] // columns
    return output.unflatten(1, (anchors, columns)).permute(0, 3, 4, 1, 2).flatten(1, 3)


def take(values: Tensor, rows: Tensor) -> Tensor:
    """Return the vectors ``(B, N, C)`` of ``values`` ``(B, M, C)`` in the rows ``(B, N)``."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[2]))


def decode(coder: nn.Module, anchors: Tensor, deltas: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Decode box deltas of shape ``(B, N, 4)`` and clip the boxes to the image."""
    fixed = not may_vary(*image_hw)
    boxes = coder.decode(anchors.flatten(0, 1), deltas.flatten(0, 1), max_shape=image_hw if fixed else None)
    boxes = getattr(boxes, 'tensor', boxes).unflatten(0, deltas.shape[:2])
    return boxes if fixed or not getattr(coder, 'clip_border', True) else clip(boxes, image_hw)


def clip(boxes: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """Clip boxes of shape ``(..., 4)`` to the image."""
    return boxes.clamp(min=0).minimum(sides(image_hw, boxes).repeat(2))


def sides(image_hw: tuple[int, int], like: Tensor) -> Tensor:
    """Return width and height of the images as a tensor of shape ``(2,)``, whether or not they are symbols."""
    return torch.stack([torch.full((), side, dtype=like.dtype, device=like.device) for side in image_hw[::-1]])


def zero_low_scores(scores: Tensor, threshold: float) -> Tensor:
    """Replace scores that are not above ``threshold`` by 0."""
    return torch.where(scores > threshold, scores, torch.zeros_like(scores))


def top_scores(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the highest scores of each row of ``scores`` ``(B, M)`` in decreasing order, and their indices.

    Args:
        scores: Scores; 0 marks removed boxes.
        count: Number of scores to return. Not positive: all of them, in any order.

    Returns:
        Scores and indices, ``(B, count)``; ``(B, M)`` if M is a number below ``count``. Where M is a symbol of a
        graph, missing scores are 0, so that ``count`` is a constant of the graph.
    """
    length = scores.shape[1]
    if may_vary(length):
        if count <= 0:
            return scores, torch.arange(length, device=scores.device).expand_as(scores)
        best, indices = nn.functional.pad(scores, (0, count)).topk(count)
        return best, indices.minimum(torch.full((), length - 1, dtype=indices.dtype, device=indices.device))
    return scores.topk(min(count, length) if count > 0 else length)
