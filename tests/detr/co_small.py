"""A small Co-DINO on a backbone of this project."""

import copy

from tests.configs.loading import CONFIGS
from tests.detr.small import CHANNELS, CLASSES, INTERNIMAGE, WIDTH, shrink_transformer
from vitdet_plugin.config.loading import load_config


def co_dino_cfg(backbone: dict = INTERNIMAGE, in_channels=CHANNELS, levels: int = 4, layers: int = 2,
                strides=None) -> dict:
    model = copy.deepcopy(load_config(str(CONFIGS / 'co_detr/co-dino_internimage-t_4scale_1x_coco.py')).model)
    model.backbone = dict(backbone)
    shrink_transformer(model, in_channels, levels, layers)
    strides = [*(strides or [8 * 2 ** i for i in range(levels)])]
    strides.append(2 * strides[-1])
    model.test_cfg.pop('nms')
    for head in (model.aux_rpn_head, *model.aux_bbox_heads):
        head.update(in_channels=WIDTH, feat_channels=WIDTH)
        head.anchor_generator.strides = strides
    model.aux_rpn_head.test_cfg.update(nms_pre=50, max_per_img=20)
    model.proposal_cfg.update(nms_pre=50, max_per_img=20)
    model.aux_bbox_heads[0].num_classes = CLASSES
    roi = model.aux_roi_heads[0]
    roi.bbox_roi_extractor.update(out_channels=WIDTH, featmap_strides=strides[:-1])
    roi.bbox_head.update(in_channels=WIDTH, fc_out_channels=32, num_classes=CLASSES)
    roi.train_cfg.sampler.num = 32
    roi.test_cfg.max_per_img = 5
    return model
