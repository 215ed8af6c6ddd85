"""DINO with static shapes for export."""

from __future__ import annotations

from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.settings import check_counts


class QueryDetector(nn.Module):
    """Convert feature maps to detections with mmdet's DINO.

    ``forward`` takes feature maps of shape ``(B, C, H, W)`` and the height and width of the images, and returns
    ``boxes`` of shape ``(B, N, 4)``, ``scores`` and ``labels`` of shape ``(B, N)``; N is ``max_per_img``.

    Args:
        model: The detector.

    Raises:
        UserError: If its classes are scored by softmax, or ``max_per_img`` is not set.
    """

    output_names = ('boxes', 'scores', 'labels')

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.head = model, model.bbox_head
        self.limit = (model.test_cfg or {}).get('max_per_img', model.num_queries)
        check_counts(dict(max_per_img=self.limit), 'model.test_cfg', needs_nms_pre=False)
        if not self.head.loss_cls.use_sigmoid:
            raise UserError(f'export of {type(self.head).__name__} with softmax scores is not supported. Use '
                            '--features to export its backbone and neck.')

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        divisor = getattr(self.model.data_preprocessor, 'pad_size_divisor', 1) or 1
        if any(side % divisor for side in image_hw):
            raise UserError(f'the input of {type(self.model).__name__} must be a multiple of '
                            f'pad_size_divisor={divisor} pixels, not {image_hw[0]} x {image_hw[1]}. Export with '
                            'another --shape.')
        logits, boxes = self.head(**self._queries(maps))
        queries, classes = logits.shape[2:]
        scores, pairs = logits[-1].sigmoid().flatten(1).topk(min(self.limit, queries * classes))
        rows = torch.div(pairs, classes, rounding_mode='floor')[..., None].expand(-1, -1, 4)
        centers, sizes = boxes[-1].gather(1, rows).split(2, 2)
        size = boxes.new_tensor([image_hw[1], image_hw[0]])
        corners = [((centers + sign * sizes / 2) * size).clamp(min=0).minimum(size) for sign in (-1, 1)]
        return torch.cat(corners, 2), scores, pairs % classes

    def _queries(self, maps: tuple[Tensor, ...]) -> dict[str, Any]:
        """Return the arguments of the head: states of the decoder's layers and reference points."""
        model, sizes = self.model, Sizes([(each.shape[2], each.shape[3]) for each in maps])
        positions = [model.positional_encoding(None, input=each).flatten(2).transpose(1, 2) + embedding
                     for each, embedding in zip(maps, model.level_embed)]
        shared = dict(spatial_shapes=sizes, level_start_index=None,
                      valid_ratios=maps[0].new_ones(maps[0].shape[0], len(maps), 2))
        memory = model.forward_encoder(torch.cat([each.flatten(2).transpose(1, 2) for each in maps], 1), None,
                                       torch.cat(positions, 1), **shared)['memory']
        decoder_inputs, head_inputs = model.pre_decoder(memory, None, sizes)
        return {**head_inputs, **model.forward_decoder(**decoder_inputs, memory_mask=None, **shared)}


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
    """Whether :class:`QueryDetector` can serve the detector.

    From Deformable DETR's decoder and head, torch's exporter writes a graph with missing nodes.
    """
    from mmdet.models.dense_heads import DINOHead
    from mmdet.models.detectors import DINO
    return type(model) is DINO and type(model.bbox_head) is DINOHead
