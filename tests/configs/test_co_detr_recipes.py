"""The Co-DINO configs have the published settings, and the recipes of their backbones."""

import pytest
import torch

from tests.configs.loading import built, groups_of, load

MILLIONS = {'internimage-t_4scale_1x': 65.9, 'vitdet-b_4scale_1x': 125.0, 'vit-l_5scale_16e': 365.4}


@pytest.mark.parametrize('name', MILLIONS)
def test_settings_of_the_paper(name):
    cfg, model = load(f'co_detr/co-dino_{name}_coco'), built(f'co_detr/co-dino_{name}_coco')
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == MILLIONS[name]
    assert (model.customized_loss_weight, model.aux_loss_weight, model.predict_with) == (1.0, 2.0, 'query')
    query, roi, atss = model.bbox_head, model.aux_roi_heads[0].bbox_head, model.aux_bbox_heads[0]
    assert [each.loss_weight for each in (query.loss_cls, query.loss_bbox, query.loss_iou)] == [1.0, 5.0, 2.0]
    assert [each.loss_weight for each in (roi.loss_cls, roi.loss_bbox)] == [1.0, 10.0]
    assert [each.loss_weight for each in (atss.loss_cls, atss.loss_bbox, atss.loss_centerness)] == [1.0, 2.0, 1.0]
    strides = [4, 8, 16, 32, 64, 128] if '5scale' in name else [8, 16, 32, 64, 128]
    for head in (model.aux_rpn_head, atss):
        assert head.prior_generator.strides == [(side, side) for side in strides]
    assert model.aux_roi_heads[0].bbox_roi_extractor.featmap_strides == strides[:-1]
    assert model.num_feature_levels == len(strides) - 1 and len(model.customized_queries) == 2
    assert (cfg.model.test_cfg.nms.type, cfg.model.test_cfg.nms.iou_threshold) == ('soft_nms', 0.8)
    groups = {each: group for group in groups_of(cfg, model) for each in group['param_names']}
    assert groups['aux_rpn_head.rpn_conv.weight']['lr'] == cfg.optim_wrapper.optimizer.lr
    decay, depth = cfg.optim_wrapper.paramwise_cfg.layer_decay_rate, model.backbone.num_layers
    stem = groups[f'backbone.{model.backbone.stem_weight}']['lr']
    assert stem == pytest.approx(cfg.optim_wrapper.optimizer.lr * decay ** (depth + 1))


def test_the_demo():
    name = 'co_detr/co-dino_vitdet-micro_1000it_demo'
    cfg, model = load(name), built(name)
    dino = load('dino/dino_vitdet-micro_1000it_demo')
    assert (cfg.train_cfg, cfg.param_scheduler, cfg.val_dataloader) == (
        dino.train_cfg, dino.param_scheduler, dino.val_dataloader)
    assert model.aux_roi_heads[0].bbox_head.num_classes == model.bbox_head.num_classes == 5
    pyramid = [torch.empty(1, 64, 16 // 2 ** i, 16 // 2 ** i, device='meta') for i in range(4)]
    for head in (model.aux_rpn_head, model.aux_bbox_heads[0]):
        assert head.prior_generator.strides == [(side, side) for side in (8, 16, 32, 64)]
        assert [tuple(each.shape[2:]) for each in head(pyramid)[0]] == [tuple(each.shape[2:]) for each in pyramid]


def test_the_vit_of_sense_x():
    cfg, model = load('co_detr/co-dino_vit-l_5scale_16e_coco'), built('co_detr/co-dino_vit-l_5scale_16e_coco')
    assert (model.num_queries, model.dn_query_generator.num_dn_queries) == (1500, 300)
    assert model.dn_query_generator.box_noise_scale == 0.4 and cfg.model.test_cfg.max_per_img == 1000
    assert model.backbone.global_blocks == {3, 7, 11, 15, 19, 23} and model.backbone.window_size == 24
    assert model.backbone.net.pos_embed.shape == (1, 32 * 32 + 1, 1024)
    epoch = 118_000 // 16
    assert cfg.train_cfg.max_iters == 16 * epoch and cfg.param_scheduler[1].milestones == [9 * epoch, 15 * epoch]
    assert (cfg.optim_wrapper.optimizer.lr, cfg.optim_wrapper.optimizer.weight_decay) == (5e-5, 0.01)
    assert cfg.custom_hooks[-1].momentum == 1e-4
