"""DINO's head with the limits of the original code and optional suppression of duplicates."""

from functools import partial

from mmcv.ops import batched_nms
from mmdet.models.dense_heads import DeformableDETRHead, DINOHead
from mmdet.models.layers import inverse_sigmoid
from mmdet.registry import MODELS
from mmengine.structures import InstanceData
from torch import Tensor

from vitdet_plugin.compat.patching import with_globals

_forward = with_globals(DeformableDETRHead.forward, inverse_sigmoid=partial(inverse_sigmoid, eps=1e-3))


@MODELS.register_module()
class OriginalDINOHead(DINOHead):
    """mmdet's ``DINOHead``, equal to that of DINO's authors and OpenGVLab for boxes of less than 1/1000 of the image.

    Boxes are refined before the sigmoid. Reference coordinates closer to 0 or 1 than 1e-3 are limited to that, as in
    the decoder; mmdet 3 limits them to 1e-5 in the head.

    ``test_cfg.nms`` is applied to the ``max_per_img`` best boxes, within each class: after a short training several
    queries may find one object. Co-DINO's authors use ``dict(type='soft_nms', iou_threshold=0.8)``. Without it,
    predictions are mmdet's.
    """

    def forward(self, hidden_states: Tensor, references: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the class scores (layers, B, queries, classes) and boxes (layers, B, queries, 4) of every layer."""
        return _forward(self, hidden_states, references)

    def _predict_by_feat_single(self, cls_score: Tensor, bbox_pred: Tensor, img_meta: dict,
                                rescale: bool = True) -> InstanceData:
        found = super()._predict_by_feat_single(cls_score, bbox_pred, img_meta, rescale)
        nms = (self.test_cfg or {}).get('nms')
        if not nms or not len(found):
            return found
        boxes, kept = batched_nms(found.bboxes, found.scores, found.labels, dict(nms))
        found = found[kept]
        found.bboxes, found.scores = boxes[:, :4], boxes[:, 4]
        return found
