"""Mask head with the initial weights and the targets of detectron2."""

from __future__ import annotations

from typing import Any

from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor, nn

from vitdet_plugin.heads.batched_mask_head import BatchedMaskHead


@MODELS.register_module()
class Detectron2MaskHead(BatchedMaskHead):
    """mmdet's ``FCNMaskHead`` with two details of detectron2 and an option of EVA-02's detectors.

    - The last convolution starts with a standard deviation of 0.001 instead of (2 / ``num_classes``) ** 0.5.
    - Masks given as polygons are scaled to the real size of the box from 0.1 pixel on. mmdet treats boxes below one
      pixel as one pixel wide, so their targets are nearly empty.
    - With ``maskness_thr`` in ``test_cfg.rcnn``, the results have ``mask_scores``: the score of the box times the
      :func:`maskness` of the mask. Metrics use them for masks; boxes keep their scores.
    """

    smallest_side = 0.1
    clips_polygons = False

    def init_weights(self) -> None:
        """Initialize the weights."""
        super().init_weights()
        nn.init.normal_(self.conv_logits.weight, std=0.001)

    def predict_by_feat(self, mask_preds: tuple[Tensor, ...], results_list: list[InstanceData],
                        batch_img_metas: list[dict], rcnn_test_cfg: ConfigDict, *args: Any,
                        **kwargs: Any) -> list[InstanceData]:
        """Add ``masks`` (n, H, W), and ``mask_scores`` (n,) with ``maskness_thr``, to the results of every image."""
        results_list = super().predict_by_feat(mask_preds, results_list, batch_img_metas, rcnn_test_cfg, *args,
                                               **kwargs)
        threshold = rcnn_test_cfg.get('maskness_thr')
        if threshold is not None:
            for logits, found in zip(mask_preds, results_list, strict=True):
                found.mask_scores = found.scores
                if len(found):
                    chosen = logits[:, 0] if self.class_agnostic else logits[range(len(found)), found.labels]
                    found.mask_scores = found.scores * maskness(chosen, threshold)
        return results_list


def maskness(logits: Tensor, threshold: float = 0.5) -> Tensor:
    """Return the mean probability of the pixels that belong to a mask (SOLO, arXiv 1912.04488, section 4).

    Args:
        logits: (n, height, width).
        threshold: Pixels with a higher probability belong to the mask.

    Returns:
        (n,); 0 for a mask without pixels.
    """
    probabilities = logits.float().sigmoid()
    inside = probabilities > threshold
    return (probabilities * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
