"""The exportable form of the heads of a detector.

The post-processing of mmdet creates tensors whose length depends on the image. The modules here keep all lengths
fixed: removed entries have a score of 0, and outputs have a fixed number of rows, highest score first, padded with
empty rows.
"""

from __future__ import annotations

from torch import nn

from vitdet_plugin.errors import UserError
from vitdet_plugin.export.dynamic_masks import DynamicMaskDetector, is_dynamic_mask_head
from vitdet_plugin.export.mask_queries import MaskQueryDetector, is_mask_query_detector
from vitdet_plugin.export.one_stage import OneStage, is_dense_head
from vitdet_plugin.export.queries import QueryDetector, is_query_detector
from vitdet_plugin.export.two_stage import TwoStage, as_list
from vitdet_plugin.heads.batched_cascade_head import BatchedCascadeRoIHead
from vitdet_plugin.heads.batched_roi_head import BatchedRoIHead
from vitdet_plugin.heads.batched_rpn_head import BatchedRPNHead
from vitdet_plugin.heads.cascade_roi_head import ViTDetCascadeRoIHead


def exportable_heads(model: nn.Module, masks: str = 'boxes') -> nn.Module:
    """Build the exportable form of the heads of a detector.

    Args:
        model: A detector of mmdet.
        masks: 'boxes' for probabilities over the boxes, 'image' for pasted masks.

    Returns:
        A :class:`OneStage`, :class:`TwoStage`, :class:`QueryDetector`, :class:`MaskQueryDetector` or
        :class:`DynamicMaskDetector` module. The masks of the last two are always those of 'image'.

    Raises:
        UserError: If the heads are not supported, or settings of their ``test_cfg`` cannot be followed.
    """
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
    roi = getattr(model, 'roi_head', None)
    auxiliary = getattr(model, 'predict_with', 'query')
    if auxiliary != 'query':
        raise UserError(f'export of the auxiliary head {auxiliary} of {type(model).__name__} is not supported. Set '
                        'model.predict_with=query, or use --features to export its backbone and neck.')
    if is_query_detector(model):
        return QueryDetector(model)
    if is_mask_query_detector(model):
        return MaskQueryDetector(model)
    if roi is None:
        head = getattr(model, 'bbox_head', None)
        if head is None:
            raise _unsupported(type(model).__name__)
        if is_dynamic_mask_head(head):
            return DynamicMaskDetector(head, head.test_cfg)
        if not (hasattr(head, 'decode') or is_dense_head(head)):
            raise _unsupported(type(head).__name__)
        return OneStage(head, head.test_cfg)
    if type(roi) not in (StandardRoIHead, BatchedRoIHead, CascadeRoIHead, BatchedCascadeRoIHead,
                         ViTDetCascadeRoIHead) or type(model.rpn_head) not in (RPNHead, BatchedRPNHead):
        raise _unsupported(f'{type(model.rpn_head).__name__} and {type(roi).__name__}')
    if any(head.custom_activation for head in as_list(roi.bbox_head)):
        raise _unsupported(f'{type(as_list(roi.bbox_head)[0].loss_cls).__name__} scores')
    return TwoStage(model.rpn_head, roi, model.rpn_head.test_cfg, roi.test_cfg, masks)


def _unsupported(name: str) -> UserError:
    return UserError(f'export of a detector with {name} is not supported (supported: Faster, Mask and Cascade R-CNN, '
                     'RetinaNet, FCOS, ATSS, RTMDet, RTMDet-Ins, YOLOv5, DINO, Co-DINO, Deformable DETR, Mask2Former). '
                     'Use --features to export its backbone and neck.')
