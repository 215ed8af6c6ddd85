"""Test-time augmentation with horizontal flips, for boxes and masks."""

from collections.abc import Mapping, Sequence

import torch
from mmcv.ops import batched_nms
from mmengine.model import BaseTTAModel
from mmengine.registry import MODELS
from mmengine.structures import InstanceData

from vitdet_plugin.config.registry import type_name
from vitdet_plugin.heads.yolov5_head import IOU_THRESHOLD, MAX_PER_IMG
from vitdet_plugin.utils.output import warn

_IOU_OF_VIEWS = 0.7


@MODELS.register_module()
class FlipTTAModel(BaseTTAModel):
    """Merge the detections of the original and the flipped image.

    Flipped detections are flipped back, then NMS runs on all detections; each kept box keeps its own mask.
    Unlike mmdet's ``DetTTAModel``, masks are supported.

    Args:
        nms: Config of the NMS, class-wise unless it has ``class_agnostic=True``.
        max_per_img: Maximum number of detections per image; None or a negative number: no limit.
        **kwargs: Other arguments of ``BaseTTAModel``.
    """

    def __init__(self, nms: dict, max_per_img: int | None = 100, **kwargs):
        super().__init__(**kwargs)
        self.nms, self.max_per_img = dict(nms), max_per_img

    def merge_preds(self, data_samples_list: Sequence[Sequence]) -> list:
        """Merge the views of each image; boxes are in pixels of the original image."""
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence):
        parts = [_flipped_back(view) if view.flip else view.pred_instances for view in views]
        found = InstanceData.cat(parts)
        if len(found):
            scored, keep = batched_nms(found.bboxes, found.scores, found.labels, self.nms)
            if self.max_per_img is not None and self.max_per_img >= 0:
                keep = keep[:self.max_per_img]
            found, scores = found[keep], scored[:len(keep), 4]  # soft NMS changes scores
            if 'mask_scores' in found:
                found.mask_scores = found.mask_scores * scores / found.scores.clamp(min=1e-12)
            found.scores = scores
        merged = views[0]
        merged.pred_instances = found
        return merged


def flip_tta_config(model: Mapping) -> dict:
    """Return the config of a `FlipTTAModel` with the NMS and the limit of the head that predicts.

    Heads without NMS, those of DETR and its relatives, find an object once in each view; boxes of one class that
    overlap by more than 0.7 (IoU) are suppressed, with a warning.

    Args:
        model: Config of a detector.
    """
    limits = _limits(model)
    if type_name(model.get('bbox_head')) == 'YOLOv5Head':
        nms = dict(type='nms', iou_threshold=limits.get('iou_threshold', IOU_THRESHOLD))
        return dict(type='FlipTTAModel', nms=nms, max_per_img=limits.get('max_per_img', MAX_PER_IMG))
    nms = limits.get('nms')
    if not nms:
        nms = dict(type='nms', iou_threshold=_IOU_OF_VIEWS)
        warn(f'--tta: {type_name(model)} has no NMS in its test_cfg; of boxes of one class that overlap by more than '
             f'{_IOU_OF_VIEWS} (IoU) in the two views the best is kept. Another tta_model in the config replaces this')
    most = limits.get('max_per_img', limits.get('max_per_image', model.get('num_queries')))
    return dict(type='FlipTTAModel', nms=nms, max_per_img=most)


def _limits(model: Mapping) -> Mapping:
    """Return the ``test_cfg`` of the head that predicts."""
    kind, _, index = str(model.get('predict_with') or '').partition('.')  # auxiliary heads of Co-DETR
    heads = model.get(f'aux_{kind}s') or ()
    cfg = (heads[int(index)] if index.isdigit() and int(index) < len(heads) else model).get('test_cfg') or {}
    return cfg.get('rcnn') or cfg.get('rpn') or cfg


def _flipped_back(view) -> InstanceData:
    if view.flip_direction != 'horizontal':
        raise ValueError(f'FlipTTAModel supports horizontal flips only, got flip_direction={view.flip_direction!r}')
    found, width = view.pred_instances, view.ori_shape[1]
    left, top, right, bottom = found.bboxes.unbind(-1)
    found.bboxes = torch.stack([width - right, top, width - left, bottom], dim=-1)
    if 'masks' in found:
        found.masks = found.masks.flip(-1)
    return found
