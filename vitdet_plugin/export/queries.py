"""DINO, Co-DINO and Deformable DETR with static shapes for export."""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.settings import check_counts, read_nms
from vitdet_plugin.export.suppression import best_after_nms


class QueryDetector(nn.Module):
    """Convert feature maps to detections with mmdet's DINO or Deformable DETR, or the query head of Co-DINO.

    ``forward`` takes feature maps of shape ``(B, C, H, W)`` and the height and width of the images, and returns
    ``boxes`` of shape ``(B, N, 4)``, ``scores`` and ``labels`` of shape ``(B, N)``; N is ``max_per_img``. With
    ``test_cfg.nms``, rows of removed boxes have score 0 and label -1, after the others.

    Args:
        model: The detector.

    Raises:
        UserError: If its classes are scored by softmax, ``max_per_img`` is not positive or ``nms`` not supported.
    """

    output_names = ('boxes', 'scores', 'labels')
    has_fixed_size = True  # of the sampling locations in a graph

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from mmdet.models.dense_heads import DINOHead

        from vitdet_plugin.heads.dino_head import OriginalDINOHead
        self.model, self.head = model, model.bbox_head
        self.is_dino = isinstance(self.head, DINOHead)
        self.limit = (model.test_cfg or {}).get('max_per_img', model.num_queries)
        check_counts(dict(max_per_img=self.limit), 'model.test_cfg', needs_nms_pre=False)
        has_nms = isinstance(self.head, OriginalDINOHead) and (self.head.test_cfg or {}).get('nms')
        self.nms = read_nms(self.head.test_cfg, 'model.test_cfg') if has_nms else None
        if not self.head.loss_cls.use_sigmoid:
            raise UserError(f'export of {type(self.head).__name__} with softmax scores is not supported. Use '
                            '--features to export its backbone and neck.')

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        divisor = getattr(self.model.data_preprocessor, 'pad_size_divisor', 1) or 1
        if any(side % divisor for side in image_hw):
            raise UserError(f'the input of {type(self.model).__name__} must be a multiple of '
                            f'pad_size_divisor={divisor} pixels, not {image_hw[0]} x {image_hw[1]}. Export with '
                            'another --shape.')
        logits, boxes = self._last_layer(maps)
        queries, classes = logits.shape[1:]
        scores, pairs = logits.sigmoid().flatten(1).topk(min(self.limit, queries * classes))
        rows = torch.div(pairs, classes, rounding_mode='floor')[..., None].expand(-1, -1, 4)
        centers, sizes = boxes.gather(1, rows).split(2, 2)
        size = boxes.new_tensor([image_hw[1], image_hw[0]])
        corners = [((centers + sign * sizes / 2) * size).clamp(min=0).minimum(size) for sign in (-1, 1)]
        found = torch.cat(corners, 2), scores, pairs % classes
        return found if self.nms is None else best_after_nms(*found, self.nms, scores.shape[1])

    def _last_layer(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the logits ``(B, queries, classes)`` and relative boxes ``(B, queries, 4)`` of the last layer."""
        model, sizes = self.model, Sizes([(each.shape[2], each.shape[3]) for each in maps])
        positions = [model.positional_encoding(None, input=each).flatten(2).transpose(1, 2) + embedding
                     for each, embedding in zip(maps, model.level_embed)]
        shared = dict(spatial_shapes=sizes, level_start_index=None,
                      valid_ratios=maps[0].new_ones(maps[0].shape[0], len(maps), 2))
        memory = model.forward_encoder(torch.cat([each.flatten(2).transpose(1, 2) for each in maps], 1), None,
                                       torch.cat(positions, 1), **shared)['memory']
        inputs, _ = model.pre_decoder(memory, None, sizes)
        if not self.is_dino:
            return self._deformable_decoder(**inputs, **shared)
        # not forward_decoder, which compares the size of the batch with the number of queries
        states, references = model.decoder(
            query=inputs['query'], value=memory, key_padding_mask=None, self_attn_mask=None,
            reference_points=inputs['reference_points'], reg_branches=self.head.reg_branches, **shared)
        logits, boxes = self.head(states, list(references))
        return logits[-1], boxes[-1]

    def _deformable_decoder(self, query: Tensor, query_pos: Tensor, memory: Tensor, reference_points: Tensor,
                            **shared: Any) -> tuple[Tensor, Tensor]:
        """Run Deformable DETR's decoder and head without mmdet's assignments to slices.

        From these, torch's exporter writes a graph with missing nodes.
        """
        head, states, points = self.head, query, reference_points
        for index, layer in enumerate(self.model.decoder.layers):
            before = points
            states = layer(states, query_pos=query_pos, value=memory, key_padding_mask=None,
                           reference_points=points[:, :, None].expand(-1, -1, len(shared['spatial_shapes']), -1),
                           **shared)
            if self.model.with_box_refine:
                points = _moved(head.reg_branches[index](states), points)
        return head.cls_branches[index](states), _moved(head.reg_branches[index](states), before)


def _moved(deltas: Tensor, points: Tensor) -> Tensor:
    """Add deltas ``(B, N, 4)`` to points ``(B, N, 2)`` or boxes ``(B, N, 4)``, as inverse sigmoids."""
    from mmdet.models.layers.transformer.utils import inverse_sigmoid
    start = inverse_sigmoid(points, eps=1e-5)
    return (deltas + nn.functional.pad(start, (0, 4 - start.shape[2]))).sigmoid()


class Sizes:
    """Height and width of each level as whole numbers, where mmdet and mmcv index a tensor of shape ``(levels, 2)``.

    A captured graph cannot use the elements of a tensor as sizes.
    """

    def __init__(self, sizes: list[tuple[int, int]]) -> None:
        self.sizes = sizes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, key: tuple[slice | EllipsisType, int]) -> Tensor | _Column:
        """Return the heights (``[..., 0]``) or widths (``[..., 1]``)."""
        leading, column = key
        numbers = [size[column] for size in self.sizes]
        return torch.tensor(numbers) if leading is Ellipsis else _Column(numbers)


class _Column(list[int]):
    """Numbers whose product with another column has a sum, for a check in mmcv's module."""

    def __mul__(self, other: Any) -> Any:
        return _Sum(a * b for a, b in zip(self, other, strict=True))


class _Sum(list[int]):
    def sum(self) -> int:
        return sum(self)


def is_query_detector(model: nn.Module) -> bool:
    """Whether :class:`QueryDetector` can serve the detector."""
    from mmdet.models.dense_heads import DeformableDETRHead, DINOHead
    from mmdet.models.detectors import DINO, DeformableDETR

    from vitdet_plugin.detectors.co_detr import CoDETR
    from vitdet_plugin.heads.co_dino_head import CoDINOHead
    from vitdet_plugin.heads.dino_head import OriginalDINOHead
    return (type(model), type(getattr(model, 'bbox_head', None))) in (
        (DINO, DINOHead), (DINO, OriginalDINOHead), (DINO, CoDINOHead), (CoDETR, CoDINOHead),
        (DeformableDETR, DeformableDETRHead))
