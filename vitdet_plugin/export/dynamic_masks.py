"""RTMDet-Ins with static shapes for export: the masks of its boxes are convolutions whose weights the head predicts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.candidates import decode, rows_of, take, top_scores, zero_low_scores
from vitdet_plugin.export.rows import put_rows, used_rows
from vitdet_plugin.export.settings import check_counts, read_nms
from vitdet_plugin.export.suppression import best_after_nms


class DynamicMaskDetector(nn.Module):
    """Convert feature maps to instances with mmdet's head of RTMDet-Ins.

    ``forward`` takes feature maps of shape ``(B, C, H, W)`` and the height and width of the images, and returns
    ``boxes`` of shape ``(B, N, 4)``, ``scores`` and ``labels`` of shape ``(B, N)``, and ``masks`` of shape
    ``(B, N, H, W)``, 0 or 1; N is ``max_per_img``. Masks are computed for rows with an object only.

    Args:
        head: The head.
        test_cfg: Its test config.

    Raises:
        UserError: If settings of the test config cannot be followed.
    """

    output_names = ('boxes', 'scores', 'labels', 'masks')
    masks = 'image'

    def __init__(self, head: nn.Module, test_cfg: Any) -> None:
        super().__init__()
        self.head, self.cfg = head, test_cfg
        self.nms = read_nms(test_cfg, 'model.test_cfg')
        check_counts(test_cfg, 'model.test_cfg', needs_nms_pre=True)
        if not test_cfg.get('mask_thr_binary', -1) >= 0:
            raise UserError('masks require a threshold. Set model.test_cfg.mask_thr_binary to a number from 0 to 1, '
                            'for example 0.5')

    def forward(self, maps: tuple[Tensor, ...], image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        logits, deltas, kernels, features = self.head(maps)
        priors = self.head.prior_generator.grid_priors([each.shape[-2:] for each in logits], dtype=maps[0].dtype,
                                                       device=maps[0].device, with_stride=True)
        parts = [self._candidates(*each, image_hw) for each in zip(logits, deltas, kernels, priors, strict=True)]
        boxes, scores, labels, values = (torch.cat(part, 1) for part in zip(*parts))
        boxes, scores, labels, values = best_after_nms(boxes, scores, labels, self.nms, self.cfg['max_per_img'], values)
        return boxes, scores, labels, self._masks(features, scores, values, image_hw)

    def _candidates(self, logits: Tensor, deltas: Tensor, kernels: Tensor, priors: Tensor,
                    image_hw: tuple[int, int]) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels, and the weights of the masks with the point and stride of each box."""
        scores = rows_of(logits, self.head.cls_out_channels).sigmoid()
        count = scores.shape[2]
        scores, pairs = top_scores(zero_low_scores(scores, self.cfg.get('score_thr', 0)).flatten(1),
                                   self.cfg['nms_pre'])
        rows = torch.div(pairs, count, rounding_mode='floor')
        chosen = priors[rows]
        boxes = decode(self.head.bbox_coder, chosen[..., :2], take(rows_of(deltas, 4), rows), image_hw)
        large = ((boxes[..., 2:] - boxes[..., :2]) > self.cfg.get('min_bbox_size', -1)).all(2)
        values = torch.cat((take(rows_of(kernels, self.head.num_gen_params), rows), chosen), 2)
        return boxes, scores * large, pairs % count, values

    def _masks(self, features: Tensor, scores: Tensor, values: Tensor, image_hw: tuple[int, int]) -> Tensor:
        """Apply the convolutions of each box to the features ``(B, C, h, w)`` of its image: ``(B, N, H, W)``."""
        rows, (batch, number) = used_rows(scores), scores.shape
        height, width = features.shape[2:]
        kernels, points, strides = values.flatten(0, 1)[rows].split([self.head.num_gen_params, 2, 2], 1)
        cells = self.head.prior_generator.single_level_grid_priors((height, width), level_idx=0, device=scores.device)
        places = (points[:, None] - cells) / (strides[:, None, :1] * 8)
        images = torch.div(rows, number, rounding_mode='floor')
        found = torch.cat((places.transpose(1, 2), features.flatten(2)[images]), 1)
        weights = kernels.split([*self.head.weight_nums, *self.head.bias_nums], 1)
        layers = len(self.head.weight_nums)
        for index, (weight, bias) in enumerate(zip(weights[:layers], weights[layers:])):
            found = weight.unflatten(1, (bias.shape[1], -1)) @ found + bias[..., None]
            found = found.relu() if index < layers - 1 else found
        stride = self.head.prior_generator.strides[0][0]
        masks = nn.functional.interpolate(found.unflatten(2, (height, width)), scale_factor=float(stride),
                                          mode='bilinear', align_corners=False)[:, 0]
        masks = (masks.sigmoid() > self.cfg['mask_thr_binary'])[:, :image_hw[0], :image_hw[1]]
        return put_rows(masks.to(torch.uint8), rows, batch, number)


def is_dynamic_mask_head(head: nn.Module) -> bool:
    """Whether :class:`DynamicMaskDetector` can serve the head."""
    from mmdet.models.dense_heads import RTMDetInsHead, RTMDetInsSepBNHead
    return type(head) in (RTMDetInsHead, RTMDetInsSepBNHead) and not getattr(
        getattr(head, 'loss_cls', None), 'custom_cls_channels', False)
