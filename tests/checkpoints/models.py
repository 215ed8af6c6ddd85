"""Small models for the checkpoint tests, which rename their weights and load them back."""

import torch
from torch import nn

from tests.parity.vitdet import detector_config
from vitdet_plugin.backbones.vitdet import ViTDet

# the smallest detector, in detectron2's terms
CONFIG = dict(
    cascade=False, num_classes=3, img_size=64, embed_dim=16, depth=3, num_heads=2, window_size=2,
    window_block_indexes=[0, 2], residual_block_indexes=[2], pretrain_img_size=32, patch_size=16, out_channels=8,
    fc_channels=16, square_pad=64, pixel_mean=[123.675, 116.28, 103.53], pixel_std=[58.395, 57.12, 57.375],
    rpn=dict(pre_nms_topk=100, post_nms_topk=100, nms=0.7, convs=2),
    test=dict(score_thr=0.05, nms=0.5, max_per_img=100))


def randomize(model: nn.Module, seed: int) -> nn.Module:
    """Give every parameter different random values, so that exchanged weights are found."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2)
    return model.eval()


def detector(seed: int, norm_cfg: dict | None = None, **changes) -> nn.Module:
    """A small Mask R-CNN or cascade detector."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    cfg = detector_config({**CONFIG, **changes})
    if norm_cfg:
        cfg.neck.norm_cfg = cfg.roi_head.bbox_head.norm_cfg = cfg.roi_head.mask_head.norm_cfg = norm_cfg
    return randomize(MODELS.build(cfg), seed)


def backbone(seed: int, **changes) -> ViTDet:
    """A backbone alone, with windowed and global blocks."""
    return randomize(ViTDet(**{**dict(
        arch=dict(embed_dim=16, depth=3, num_heads=2), img_size=64, window_size=2, pretrain_img_size=32,
        propagation='none', global_block_indexes=[1]), **changes}), seed)
