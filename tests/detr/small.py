"""Small versions of mmdet's DINO and Deformable DETR on backbones of this project."""

import copy

import torch
from mmengine.registry import init_default_scope
from torch import nn

from tests.backbones.registered import disturb
from vitdet_plugin.config.loading import load_config

WIDTH, CLASSES, QUERIES, LAYERS = 32, 5, 12, 2
INTERNIMAGE = dict(type='InternImage', arch=dict(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8)),
                   out_indices=(1, 2, 3), layer_scale=1.0)
CHANNELS = (32, 64, 128)


def shrink_transformer(model: dict, in_channels=CHANNELS, levels: int = 4, layers: int = LAYERS) -> dict:
    """Shrink neck, transformer and head of a config of mmdet in place."""
    model.neck.update(in_channels=list(in_channels), out_channels=WIDTH, num_outs=levels,
                      norm_cfg=dict(type='GN', num_groups=8))
    for part in (model.encoder, model.decoder):
        part.num_layers = layers
        part.layer_cfg.ffn_cfg.update(embed_dims=WIDTH, feedforward_channels=48)
        for name in ('self_attn_cfg', 'cross_attn_cfg'):
            if name in part.layer_cfg:
                part.layer_cfg[name].embed_dims = WIDTH
                if name == 'cross_attn_cfg' or part is model.encoder:
                    part.layer_cfg[name].num_levels = levels
    model.update(num_queries=QUERIES, num_feature_levels=levels)
    model.positional_encoding.num_feats = WIDTH // 2
    model.bbox_head.update(num_classes=CLASSES, embed_dims=WIDTH)
    model.test_cfg.max_per_img = 10
    return model


def dino_cfg(backbone: dict = INTERNIMAGE, name: str = 'dino/dino-4scale_r50_8xb2-12e_coco', **sizes) -> dict:
    model = copy.deepcopy(load_config(f'mmdet::{name}.py').model)
    model.backbone = dict(backbone)
    return shrink_transformer(model, **sizes)


def host(kind: str, backbone: dict, channels) -> dict:
    """A small version of one of mmdet's own detectors."""
    if kind in ('dino', 'deformable_detr'):
        name = 'dino/dino-4scale_r50_8xb2-12e_coco' if kind == 'dino' else \
            'deformable_detr/deformable-detr_r50_16xb2-50e_coco'
        return dino_cfg(backbone, name, in_channels=channels)
    name = {'rtmdet': 'rtmdet/rtmdet_tiny_8xb32-300e_coco', 'atss': 'atss/atss_r50_fpn_1x_coco',
            'fcos': 'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco',
            'mask2former': 'mask2former/mask2former_r50_8xb2-lsj-50e_coco',
            'sparse_rcnn': 'sparse_rcnn/sparse-rcnn_r50_fpn_1x_coco'}[kind]
    model = copy.deepcopy(load_config(f'mmdet::{name}.py').model)
    model.backbone = dict(backbone)
    if kind == 'rtmdet':
        model.neck.update(in_channels=list(channels), out_channels=16, num_csp_blocks=1)
        model.bbox_head.update(num_classes=3, in_channels=16, feat_channels=16)
    elif kind == 'sparse_rcnn':
        model.neck.update(in_channels=list(channels), out_channels=16, start_level=0, num_outs=3)
        model.rpn_head.update(num_proposals=5, proposal_feature_channel=16)
        head = model.roi_head
        head.update(num_stages=2, stage_loss_weights=[1, 1], proposal_feature_channel=16)
        head.bbox_roi_extractor.update(out_channels=16, featmap_strides=[8, 16, 32])
        head.bbox_head = head.bbox_head[:2]
        for each in head.bbox_head:
            each.update(num_classes=3, in_channels=16, feedforward_channels=16)
            each.dynamic_conv_cfg.update(in_channels=16, feat_channels=8, out_channels=16)
        model.train_cfg.rcnn = model.train_cfg.rcnn[:2]
        model.test_cfg.rcnn.max_per_img = 5
    elif kind in ('atss', 'fcos'):
        model.neck.update(in_channels=list(channels), out_channels=32, start_level=0, num_outs=5)
        model.bbox_head.update(num_classes=3, in_channels=32, feat_channels=32, stacked_convs=1)
    else:
        model.data_preprocessor.pop('batch_augments')
        head = model.panoptic_head
        head.update(in_channels=list(channels), strides=[8, 16, 32], feat_channels=32, out_channels=32,
                    num_things_classes=3, num_queries=5, num_transformer_feat_level=2)
        head.loss_cls.class_weight = [1.0] * 3 + [0.1]
        model.panoptic_fusion_head.num_things_classes = 3
        decoder = head.pixel_decoder
        decoder.num_outs = 2
        decoder.norm_cfg.num_groups = 8
        decoder.positional_encoding.num_feats = head.positional_encoding.num_feats = 16
        for part, names in ((decoder.encoder, ['self_attn_cfg']),
                            (head.transformer_decoder, ['self_attn_cfg', 'cross_attn_cfg'])):
            part.num_layers = 1
            part.layer_cfg.ffn_cfg.update(embed_dims=32, feedforward_channels=32)
            for each in names:
                part.layer_cfg[each].embed_dims = 32
        decoder.encoder.layer_cfg.self_attn_cfg.num_levels = 2
    return model


def build(cfg: dict, seed: int = 0) -> nn.Module:
    """Build a detector with every parameter moved off its initial value."""
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    torch.manual_seed(seed)
    model = MODELS.build(copy.deepcopy(cfg))
    model.init_weights()
    return disturb(model).eval()


def dino(seed: int = 0, **options) -> nn.Module:
    return build(dino_cfg(**options), seed)


def deformable_detr(seed: int = 0, two_stage: bool = False) -> nn.Module:
    kind = '-refine-twostage' if two_stage else ''
    return build(dino_cfg(name=f'deformable_detr/deformable-detr{kind}_r50_16xb2-50e_coco'), seed)


def predict(model: nn.Module, images: torch.Tensor, shapes: list[tuple[int, int]]) -> list:
    """Return the predictions for images that fill (height, width) of a padded batch each."""
    from mmdet.structures import DetDataSample
    samples = [DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, batch_input_shape=tuple(images.shape[2:]),
                                           scale_factor=(1.0, 1.0), img_id=i)) for i, shape in enumerate(shapes)]
    with torch.no_grad():
        return [sample.pred_instances for sample in model.predict(images, samples, rescale=False)]
