"""Masks of mmdet's RoI heads as RLE, computed for the detections that are kept only.

mmdet computes a mask for every detection, in a boolean array (N, H, W). Here detections below the score threshold get
none, and a mask that is pasted into its image becomes RLE before the next one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor, nn

from vitdet_plugin.runtime.masks import paste_region
from vitdet_plugin.utils.mask_rle import Rle, encode_region


@contextlib.contextmanager
def compact_masks(model: nn.Module, score_thr: float) -> Iterator[None]:
    """Within this block the RoI heads of ``model`` return masks as RLE, for detections with at least this score.

    Models with other heads are not changed. The scores of detections do not depend on the threshold, as detections are
    only suppressed by those of higher scores.

    Args:
        model: A detector of mmdet.
        score_thr: Lowest score; detections below it may be missing.
    """
    head = getattr(model, 'roi_head', None)
    with contextlib.ExitStack() as stack:
        if head is not None:
            _raise_threshold(stack, head, score_thr)
            if getattr(head, 'with_mask', False) and hasattr(head, 'predict_mask'):
                _keep_only(stack, head, score_thr)
                for mask_head in head.mask_head if isinstance(head.mask_head, nn.ModuleList) else [head.mask_head]:
                    _encode(stack, mask_head)
        yield


def _raise_threshold(stack: contextlib.ExitStack, head: nn.Module, score_thr: float) -> None:
    """Let NMS start from the detections that can be kept; other methods than NMS change scores."""
    cfg = getattr(head, 'test_cfg', None)
    if cfg is None or 'score_thr' not in cfg or (cfg.get('nms') or {}).get('type', 'nms') != 'nms':
        return
    below = float(np.nextafter(np.float32(score_thr), np.float32(-math.inf)))  # mmdet removes scores up to it
    before, cfg['score_thr'] = cfg['score_thr'], max(cfg['score_thr'], below)
    stack.callback(cfg.__setitem__, 'score_thr', before)


def _keep_only(stack: contextlib.ExitStack, head: nn.Module, score_thr: float) -> None:
    predict_mask = head.predict_mask

    def of_kept(x: Any, batch_img_metas: list[dict], results_list: list, rescale: bool = False) -> list:
        kept = [results[results.scores >= score_thr] for results in results_list]
        return predict_mask(x, batch_img_metas, kept, rescale=rescale)

    head.predict_mask = of_kept
    stack.callback(delattr, head, 'predict_mask')


def _encode(stack: contextlib.ExitStack, head: nn.Module) -> None:
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    if getattr(type(head), '_predict_by_feat_single', None) is not FCNMaskHead._predict_by_feat_single:
        return

    def encoded(mask_preds: Tensor, bboxes: Tensor, labels: Tensor, img_meta: dict, rcnn_test_cfg: Any,
                rescale: bool = False, activate_map: bool = False) -> list[Rle] | Tensor:
        if not rescale or rcnn_test_cfg.mask_thr_binary < 0:
            return FCNMaskHead._predict_by_feat_single(head, mask_preds, bboxes, labels, img_meta, rcnn_test_cfg,
                                                       rescale, activate_map)
        probabilities = bboxes.new_tensor(mask_preds) if activate_map else mask_preds.sigmoid()
        bboxes /= bboxes.new_tensor(img_meta['scale_factor']).repeat((1, 2))  # in place, as mmdet does
        if not head.class_agnostic:
            probabilities = probabilities[range(len(labels)), labels][:, None]
        pairs = zip(probabilities[:, 0].float().cpu().numpy(), bboxes.float().cpu().numpy())
        shape = int(img_meta['ori_shape'][0]), int(img_meta['ori_shape'][1])
        regions = (paste_region(mask, box, shape) for mask, box in pairs)
        return [encode_region(region >= rcnn_test_cfg.mask_thr_binary, left, top, shape)
                for region, left, top in regions]

    head._predict_by_feat_single = encoded
    stack.callback(delattr, head, '_predict_by_feat_single')


