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


def paste_mask(mask: Tensor, box: Tensor, shape: tuple[int, int], threshold: float) -> Rle:
    """Paste the probabilities of one object into its image as mmdet does on a CPU, and encode the result.

    Args:
        mask: (m, m) probabilities over the box.
        box: (4,) x1, y1, x2, y2 in pixels of the image.
        shape: Height and width of the image.
        threshold: Pixels with at least this probability belong to the object.
    """
    from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
    height, width = shape
    x1, y1, x2, y2 = box.tolist()
    if not (x1 < width + 1 and y1 < height + 1 and x2 > -1 and y2 > -1):  # mmdet pastes one pixel around a box, too
        return encode_region(np.zeros((0, 0), dtype=bool), 0, 0, shape)
    part, (rows, columns) = _do_paste_mask(mask[None, None], box[None], *shape, skip_empty=True)
    left, top = max(int(columns.start), 0), max(int(rows.start), 0)
    return encode_region((part[0] >= threshold).numpy(), left, top, shape)


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
        probabilities, boxes = probabilities[:, 0].float().cpu(), bboxes.float().cpu()
        shape = int(img_meta['ori_shape'][0]), int(img_meta['ori_shape'][1])
        return [paste_mask(mask, box, shape, rcnn_test_cfg.mask_thr_binary) for mask, box in zip(probabilities, boxes)]

    head._predict_by_feat_single = encoded
    stack.callback(delattr, head, '_predict_by_feat_single')


