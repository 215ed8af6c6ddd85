"""DINOv3's ViT-S in a Mask R-CNN on a small custom data set. Its weights are published under an agreement.

Without them: ``--weights FILE``, or ``model.backbone.init_cfg.checkpoint=FILE``.
"""

_base_ = 'mask-rcnn_dinov2-s_lsj-240it_fruits-nuts.py'

model = dict(backbone=dict(_delete_=True, **_base_.dinov3_s))
