"""VOLO's recipes: the official training settings, and a detector whose anchors fit its pyramid."""

import pytest

from tests.configs.loading import built, load

# parameters in millions, drop path, learning rate; batch 1,024, 20 epochs of warm-up, 300 and 10 at the least rate
OFFICIAL = {'d1': (26.63, 0.1, 1.6e-3), 'd2': (58.68, 0.2, 1e-3), 'd3': (86.33, 0.5, 1e-3), 'd4': (192.96, 0.5, 1e-3),
            'd5': (295.46, 0.75, 1e-3)}


@pytest.mark.parametrize('size', OFFICIAL)
def test_official_recipe(size):
    millions, drop_path, rate = OFFICIAL[size]
    name = f'classification/volo-{size}_310e_imagenet'
    cfg, model = load(name), built(name)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert cfg.model.backbone.drop_path_rate == drop_path and model.head.aux_weight == 0.5
    assert type(model.data_preprocessor).__name__ == 'MixTokenDataPreprocessor'
    assert 8 * cfg.train_dataloader.batch_size == 1024
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', rate, 0.05)
    assert [each.end for each in cfg.param_scheduler] == [20, 300, 310]
    assert 'train_cfg' not in cfg.model  # no Mixup or CutMix in addition to mixed tokens
    pipeline = {step.type: step for step in cfg.train_dataloader.dataset.pipeline}
    assert pipeline['RandAugment'].magnitude_level == 9 and pipeline['RandomErasing'].erase_prob == 0.25
    assert cfg.val_dataloader.dataset.pipeline[1].scale == 233  # 224 / 0.96


def test_detector():
    cfg, model = load('volo/mask-rcnn_volo-d1_fpn_3x_coco'), built('volo/mask-rcnn_volo-d1_fpn_3x_coco')
    assert model.backbone.out_strides == (8, 16, 32)
    assert model.backbone.out_channels == tuple(cfg.model.neck.in_channels)
    generator = model.rpn_head.prior_generator
    assert [stride[0] for stride in generator.strides] == [8, 16, 32, 64, 128] and model.neck.num_outs == 5
    sides = [base.diff().abs() for base in (anchors[1, [0, 2]] for anchors in generator.base_anchors)]
    assert [round(side.item()) for side in sides] == [32, 64, 128, 256, 512]
    for extractor in (model.roi_head.bbox_roi_extractor, model.roi_head.mask_roi_extractor):
        assert list(extractor.featmap_strides) == [8, 16, 32]
    assert model.backbone.norm_eval and not model.backbone.patch_embed.conv[1].training
