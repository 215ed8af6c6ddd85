"""Mask2Former for export."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.levels import Levels, padded_hw
from vitdet_plugin.export.settings import check_counts


class MaskQueryDetector(nn.Module):
    """Convert feature maps to instances with mmdet's Mask2Former.

    ``forward`` takes feature maps of shape ``(B, C, H, W)`` and the height and width of the images, and returns
    ``boxes`` of shape ``(B, N, 4)``, ``scores`` and ``labels`` of shape ``(B, N)``, and ``masks`` of shape
    ``(B, N, H, W)``, 0 or 1; N is ``max_per_image``. Boxes enclose the masks.

    Args:
        model: The detector.

    Raises:
        UserError: If it does not predict instances, or ``max_per_image`` is not positive.
    """

    output_names = ('boxes', 'scores', 'labels', 'masks')
    masks = 'image'

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.cfg = model, model.test_cfg or {}
        if not self.cfg.get('instance_on', False):
            raise UserError('export of Mask2Former is for instances, and model.test_cfg.instance_on is False. Set it '
                            'to True, or use --features to export its backbone and neck')
        limit = self.cfg.get('max_per_image', 100)
        check_counts(dict(max_per_img=limit), 'model.test_cfg', needs_nms_pre=False)
        self.head = copy.copy(model.panoptic_head)
        self.head._modules = {**self.head._modules, 'pixel_decoder': _PixelDecoder(model.panoptic_head.pixel_decoder)}
        self.limit = min(limit, self.head.num_queries * self.head.num_classes)
        self.divisor = getattr(model.data_preprocessor, 'pad_size_divisor', 1) or 1

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        logits, masks = (outputs[-1] for outputs in self.head(list(maps), None))
        things = self.head.num_things_classes
        scores, pairs = logits.softmax(2)[..., :-1].flatten(1).topk(self.limit)
        rows, labels = torch.div(pairs, self.head.num_classes, rounding_mode='floor'), pairs % self.head.num_classes
        masks = masks.gather(1, rows[..., None, None].expand(-1, -1, *masks.shape[2:]))
        padded = padded_hw(image_hw, self.divisor)
        masks = nn.functional.interpolate(masks, padded, mode='bilinear', align_corners=False)
        masks = masks[..., :image_hw[0], :image_hw[1]]
        inside = (masks > 0).to(masks)
        scores = scores * (masks.sigmoid() * inside).sum((2, 3)) / (inside.sum((2, 3)) + 1e-6) * (labels < things)
        scores, order = scores.topk(self.limit)
        inside = inside.gather(1, order[..., None, None].expand(-1, -1, *image_hw)) * (scores > 0)[..., None, None]
        labels = torch.where(scores > 0, labels.gather(1, order), -1)
        return enclosing_boxes(inside), scores, labels, inside.to(torch.uint8)


class _PixelDecoder(nn.Module):
    """mmdet's pixel decoder with the sizes of its levels as whole numbers, which a captured graph requires."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        decoder, count = self.decoder, self.decoder.num_encoder_levels
        coarse = maps[::-1][:count]  # from low to high resolution
        levels = Levels(coarse)  # mmdet does not mask the padding
        queries = [convolve(each).flatten(2).transpose(1, 2) for convolve, each in zip(decoder.input_convs, coarse)]
        memory = decoder.encoder(
            query=torch.cat(queries, 1), key_padding_mask=None,
            query_pos=levels.positions(decoder.postional_encoding, decoder.level_encoding.weight),
            spatial_shapes=levels.sizes, level_start_index=None, reference_points=levels.reference_points(),
            valid_ratios=levels.valid_ratios).transpose(1, 2)
        parts = memory.split([height * width for height, width in levels.sizes], 2)
        outputs = [part.unflatten(2, size) for part, size in zip(parts, levels.sizes)]
        for index in range(decoder.num_input_levels - count - 1, -1, -1):
            lateral = decoder.lateral_convs[index](maps[index])
            above = nn.functional.interpolate(outputs[-1], lateral.shape[2:], mode='bilinear', align_corners=False)
            outputs.append(decoder.output_convs[index](lateral + above))
        return decoder.mask_feature(outputs[-1]), outputs[:decoder.num_outs]


def enclosing_boxes(masks: Tensor) -> Tensor:
    """Return the boxes ``(..., 4)`` around the pixels of masks ``(..., H, W)`` of 0 and 1; zeros for empty masks."""
    corners = []
    for axis, side in ((-2, masks.shape[-1]), (-1, masks.shape[-2])):  # columns, then rows
        used, place = masks.amax(axis), torch.arange(side, device=masks.device).to(masks)
        corners.append((side - (used * (side - place)).amax(-1), (used * (place + 1)).amax(-1)))
    (left, right), (top, bottom) = corners
    boxes = torch.stack((left, top, right, bottom), -1)
    return boxes * (right > 0)[..., None]


def is_mask_query_detector(model: nn.Module) -> bool:
    """Whether :class:`MaskQueryDetector` can serve the detector."""
    from mmdet.models.dense_heads import Mask2FormerHead
    from mmdet.models.detectors import Mask2Former
    from mmdet.models.layers import MSDeformAttnPixelDecoder
    from mmdet.models.seg_heads import MaskFormerFusionHead
    head: Any = getattr(model, 'panoptic_head', None)
    return (type(model), type(head), type(getattr(head, 'pixel_decoder', None)), type(
        getattr(model, 'panoptic_fusion_head', None))) == (Mask2Former, Mask2FormerHead, MSDeformAttnPixelDecoder,
                                                          MaskFormerFusionHead)
