"""DINO, Co-DINO and Deformable DETR for export."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.candidates import sides
from vitdet_plugin.export.levels import Levels
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

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from mmdet.models.dense_heads import DINOHead

        from vitdet_plugin.heads.dino_head import OriginalDINOHead
        self.model, self.head = copy.copy(model), model.bbox_head  # the copy has the same layers
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
        logits, boxes = self._last_layer(maps, Levels(maps, image_hw, divisor))
        queries, classes = logits.shape[1:]
        scores, pairs = logits.sigmoid().flatten(1).topk(min(self.limit, queries * classes))
        rows = torch.div(pairs, classes, rounding_mode='floor')[..., None].expand(-1, -1, 4)
        centers, sizes = boxes.gather(1, rows).split(2, 2)
        size = sides(image_hw, boxes)
        corners = [((centers + sign * sizes / 2) * size).clamp(min=0).minimum(size) for sign in (-1, 1)]
        found = torch.cat(corners, 2), scores, pairs % classes
        return found if self.nms is None else best_after_nms(*found, self.nms, scores.shape[1])

    def _last_layer(self, maps: tuple[Tensor, ...], levels: Levels) -> tuple[Tensor, Tensor]:
        """Return the logits ``(B, queries, classes)`` and relative boxes ``(B, queries, 4)`` of the last layer."""
        model, mask = self.model, levels.mask
        shared = dict(key_padding_mask=mask, spatial_shapes=levels.sizes, level_start_index=None,
                      valid_ratios=levels.valid_ratios)
        memory = torch.cat([each.flatten(2).transpose(1, 2) for each in maps], 1)
        positions, points = levels.positions(model.positional_encoding, model.level_embed), levels.reference_points()
        for layer in model.encoder.layers:
            memory = layer(query=memory, query_pos=positions, reference_points=points, **shared)
        model.gen_encoder_output_proposals = lambda memory, *rest: self._propose(memory, levels)
        inputs, _ = model.pre_decoder(memory, mask, levels.sizes)
        if not self.is_dino:
            return self._deformable_decoder(**inputs, **shared)
        # not forward_decoder, which compares the size of the batch with the number of queries
        states, references = model.decoder(
            query=inputs['query'], value=memory, self_attn_mask=None, reference_points=inputs['reference_points'],
            reg_branches=self.head.reg_branches, **shared)
        logits, boxes = self.head(states, list(references))
        return logits[-1], boxes[-1]

    def _propose(self, memory: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
        """Return the features ``(B, N, C)`` and boxes ``(1, N, 4)`` of mmdet's first stage."""
        proposals, used = levels.proposals()
        return self.model.memory_trans_norm(self.model.memory_trans_fc(memory.masked_fill(~used, 0.0))), proposals

    def _deformable_decoder(self, query: Tensor, query_pos: Tensor, memory: Tensor, reference_points: Tensor,
                            **shared: Any) -> tuple[Tensor, Tensor]:
        """Run Deformable DETR's decoder and head without mmdet's assignments to slices.

        From these, torch's exporter writes a graph with missing nodes.
        """
        head, states, points, ratios = self.head, query, reference_points, shared['valid_ratios']
        for index, layer in enumerate(self.model.decoder.layers):
            before = points
            scaled = points[:, :, None] * ratios.repeat(1, 1, points.shape[2] // 2)[:, None]
            states = layer(states, query_pos=query_pos, value=memory, reference_points=scaled, **shared)
            if self.model.with_box_refine:
                points = _moved(head.reg_branches[index](states), points)
        return head.cls_branches[index](states), _moved(head.reg_branches[index](states), before)


def _moved(deltas: Tensor, points: Tensor) -> Tensor:
    """Add deltas ``(B, N, 4)`` to points ``(B, N, 2)`` or boxes ``(B, N, 4)``, as inverse sigmoids."""
    from mmdet.models.layers.transformer.utils import inverse_sigmoid
    start = inverse_sigmoid(points, eps=1e-5)
    return (deltas + nn.functional.pad(start, (0, 4 - start.shape[2]))).sigmoid()


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
