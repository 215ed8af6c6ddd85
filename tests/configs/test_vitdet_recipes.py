"""The ViTDet configs equal the recipes of the references."""

import pytest
from mmdet.registry import TASK_UTILS

from tests.configs.loading import NAMES, built, groups_of, load
from vitdet_plugin.config.loading import load_config

COCO_100EP = (163_889, 177_546), 184_375
COCO_75EP = (122_916, 133_159), 138_281
LVIS_100EP = (138_889, 150_463), 156_250
# detectron2's ViTDet: parameters in millions (COCO), drop path, layer decay, rate, schedule
RECIPES = {
    'vitdet_100e': (110.9, 0.1, 0.7, 1e-4, COCO_100EP),
    'vitdet/mask-rcnn_vitdet-b_lsj-100e_coco': (110.9, 0.1, 0.7, 1e-4, COCO_100EP),
    'vitdet/mask-rcnn_vitdet-l_lsj-100e_coco': (330.7, 0.4, 0.8, 1e-4, COCO_100EP),
    'vitdet/mask-rcnn_vitdet-h_lsj-75e_coco': (661.2, 0.5, 0.9, 1e-4, COCO_75EP),
    'vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco': (141.2, 0.1, 0.7, 1e-4, COCO_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-l_lsj-100e_coco': (361.0, 0.4, 0.8, 1e-4, COCO_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-h_lsj-75e_coco': (691.5, 0.5, 0.9, 1e-4, COCO_75EP),
    'vitdet/mask-rcnn_vitdet-b_lsj-100e_lvis': (None, 0.1, 0.7, 2e-4, LVIS_100EP),
    'vitdet/mask-rcnn_vitdet-l_lsj-100e_lvis': (None, 0.4, 0.8, 2e-4, LVIS_100EP),
    'vitdet/mask-rcnn_vitdet-h_lsj-100e_lvis': (None, 0.4, 0.9, 1e-4, LVIS_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_lvis': (None, 0.1, 0.7, 2e-4, LVIS_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-l_lsj-100e_lvis': (None, 0.4, 0.8, 2e-4, LVIS_100EP),
    'vitdet/cascade-mask-rcnn_vitdet-h_lsj-100e_lvis': (None, 0.4, 0.9, 1e-4, LVIS_100EP),
}


@pytest.mark.parametrize('name', RECIPES)
def test_recipe(name):
    millions, drop_path, decay, rate, (milestones, iterations) = RECIPES[name]
    cfg, model = load(name), built(name)
    if millions is not None:
        assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert tuple(cfg.param_scheduler[1].milestones) == milestones
    assert cfg.train_cfg.max_iters == iterations
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay, tuple(optimizer.betas)) == (rate, 0.1, (0.9, 0.999))
    by_name = {n: group for group in groups_of(cfg, model) for n in group['param_names']}
    depth = len(model.backbone.blocks)
    assert by_name['backbone.pos_embed']['lr'] == pytest.approx(rate * decay ** (depth + 1))
    assert by_name[f'backbone.blocks.{depth - 1}.attn.rel_pos_h']['lr'] == pytest.approx(rate * decay)
    assert by_name['roi_head.mask_head.conv_logits.weight']['lr'] == rate


@pytest.mark.parametrize('name', [name for name in RECIPES if name.endswith('lvis')])
def test_lvis(name):
    cfg = load(name)
    assert cfg.train_dataloader.dataset.type == 'ClassBalancedDataset'
    assert cfg.train_dataloader.dataset.oversample_thr == 1e-3
    assert (cfg.model.test_cfg.rcnn.score_thr, cfg.model.test_cfg.rcnn.max_per_img) == (0.02, 300)
    model = built(name)
    heads = model.roi_head.bbox_head if name.startswith('vitdet/cascade') else [model.roi_head.bbox_head]
    for head in heads:
        assert type(head.loss_cls).__name__ == 'FederatedSigmoidLoss' and head.fc_cls.out_features == 1204
        assert head.fc_reg.out_features == (4 if name.startswith('vitdet/cascade') else 4 * 1203)


@pytest.mark.parametrize(('name', 'gpus'), [
    ('vitdet_100e', 8), ('vitdet/mask-rcnn_vitdet-b_lsj-100e-1xb8_coco', 1),
    ('vitdet/mask-rcnn_vitdet-b_lsj-100e-1xb2-cp_coco', 1), ('vitdet/mask-rcnn_vitdet-b_lsj-100e-8xb2-cp_coco', 8)])
def test_batch_arithmetic(name, gpus):
    """64 images per update of the weights and 100 epochs of 118,000 images on any number of GPUs."""
    cfg = load(name)
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    images = gpus * cfg.train_dataloader.batch_size
    assert images * accumulated == 64
    assert cfg.train_cfg.max_iters * images == 11_800_000
    assert cfg.param_scheduler[0].end == 250 * accumulated
    assert cfg.auto_scale_lr.base_batch_size == images


def test_boxes_without_masks():
    cfg = load('vitdet/faster-rcnn_vitdet-b_lsj-100e_coco')
    assert not built('vitdet/faster-rcnn_vitdet-b_lsj-100e_coco').roi_head.with_mask
    assert not any(step.get('with_mask') for step in cfg.train_dataloader.dataset.pipeline)
    assert cfg.val_evaluator.metric == cfg.test_evaluator.metric == 'bbox'


def test_weight_decay_as_in_each_recipe():
    """detectron2 exempts LayerNorm and ``pos_embed`` for B and L, but nothing for H."""
    for name in RECIPES:
        exempt = [n for group in groups_of(load(name), built(name)) if not group['weight_decay']
                  for n in group['param_names']]
        if 'vitdet-h' in name:
            assert not exempt, name
        else:
            assert 'backbone.pos_embed' in exempt and 'backbone.blocks.0.norm1.weight' in exempt, name
            assert not any('rel_pos' in n or n.startswith(('neck.', 'roi_head.')) for n in exempt), name


@pytest.mark.parametrize('name', [name for name in NAMES if 'mask-rcnn' in name or name.startswith('vitdet')])
def test_anchors_are_matched_as_in_the_source_of_each_recipe(name):
    model = load(name).model
    assigner, sampler = model.train_cfg.rpn.assigner, model.train_cfg.rpn.sampler
    if ('_fpn_' in name and 'demo' not in name) or 'easycv' in name:
        assert (assigner.type, assigner.min_pos_iou, sampler.type) == ('MaxIoUAssigner', 0.3, 'DeferredRandomSampler')
    else:
        assert (assigner.type, sampler.type) == ('Detectron2Assigner', 'Detectron2Sampler')
    assert (assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.match_low_quality) == (0.7, 0.3, True)
    if model.roi_head.get('mask_head'):
        expected = 'Detectron2MaskHead' if assigner.type == 'Detectron2Assigner' else 'BatchedMaskHead'
        assert model.roi_head.mask_head.type == expected


def test_the_convention_of_mmdet_by_options():
    cfg = load_config('vitdet_100e', ['model.train_cfg.rpn.assigner.type=MaxIoUAssigner',
                                      'model.train_cfg.rpn.assigner.min_pos_iou=0.3'])
    assigner = TASK_UTILS.build(cfg.model.train_cfg.rpn.assigner)
    assert type(assigner).__name__ == 'MaxIoUAssigner' and assigner.min_pos_iou == 0.3
