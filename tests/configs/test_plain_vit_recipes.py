"""The configs of EVA-02's detectors equal the authors' recipes; those for small data freeze most of the backbone."""

import pytest

from tests.configs.loading import CONFIGS, built, groups_of, load
from vitdet_plugin.config.loading import load_config

FOUR, EIGHT = (5, 11, 17, 23), tuple(range(2, 24, 3))
# image size, window, global blocks, drop path, rate, decay, images per step, iterations, warm-up
EVA02 = {
    'b_lsj-60k_coco': (1024, 16, (2, 5, 8, 11), 0.1, 5e-5, 0.7, 128, 60_000, 1000),
    'b_lsj-60k-1536_coco': (1536, 32, (1, 3, 5, 7, 9, 11), 0.1, 5e-5, 0.7, 128, 60_000, 1000),
    'b_lsj-50k_lvis': (1024, 16, (2, 5, 8, 11), 0.1, 1e-4, 0.7, 128, 50_000, 1000),
    'l_lsj-60k_coco': (1024, 16, FOUR, 0.4, 6e-5, 0.8, 144, 60_000, 1000),
    'l_lsj-60k-1536_coco': (1536, 32, EIGHT, 0.4, 5e-5, 0.8, 128, 60_000, 1000),
    'l_lsj-40k-1536-o365_coco': (1536, 16, EIGHT, 0.3, 4e-5, 0.8, 64, 40_000, 400),
    'l_lsj-40k_lvis': (1024, 16, FOUR, 0.4, 1e-4, 0.8, 128, 40_000, 1000),
    'l_lsj-40k-1536_lvis': (1536, 32, EIGHT, 0.4, 1e-4, 0.8, 128, 40_000, 1000),
    'l_lsj-70k-1536-o365_lvis': (1536, 16, EIGHT, 0.3, 4e-5, 0.8, 64, 70_000, 400),
}
SMALL_DATA = ['mask-rcnn_dinov2-s_lsj-240it_fruits-nuts', 'faster-rcnn_dinov2-s_lsj-240it_bccd',
              'mask-rcnn_dinov3-s_lsj-240it_fruits-nuts', 'cascade-mask-rcnn_dinov2-s_lsj-360it_coco-mini']


@pytest.mark.parametrize('name', EVA02)
def test_recipe_of_eva02(name):
    size, window, blocks, drop_path, rate, decay, batch, iters, warmup = EVA02[name]
    name = f'plain_vit/cascade-mask-rcnn_eva02-{name}'
    cfg, model = load(name), built(name)
    assert cfg.model.data_preprocessor.pad_size_divisor == size
    data = cfg.train_dataloader.dataset
    jitter, = (step for step in data.get('dataset', data).pipeline if step.type == 'LargeScaleJitter')
    resize, = (step for step in cfg.test_dataloader.dataset.pipeline if step.type == 'Resize')
    assert (jitter.image_size, tuple(resize.scale)) == (size, (size, size))
    backbone = model.backbone
    assert backbone.window_size == window and backbone.global_blocks == set(blocks)
    assert cfg.model.backbone.drop_path_rate == drop_path
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == batch
    assert (cfg.train_cfg.max_iters, cfg.param_scheduler[0].end) == (iters, warmup)
    milestones = [list(each.milestones) for each in cfg.param_scheduler if each.type == 'MultiStepLR']
    assert milestones == ([] if 'o365' in name else [[iters * 8 // 10, iters * 9 // 10]])
    assert any(hook.type == 'EMAHook' for hook in cfg.get('custom_hooks', [])) == ('o365' in name)
    groups = {name: group for group in groups_of(cfg, model) for name in group['param_names']}
    depth = len(backbone.net.blocks)
    assert groups['backbone.net.pos_embed']['lr'] == pytest.approx(rate * decay ** (depth + 1))
    assert groups[f'backbone.net.blocks.{depth - 1}.norm1.weight']['lr'] == pytest.approx(rate * decay)
    assert groups['roi_head.mask_head.conv_logits.weight']['lr'] == rate
    assert {group['weight_decay'] for group in groups.values()} == {0.1}
    assert all(head.reg_class_agnostic for head in model.roi_head.bbox_head)
    losses = {type(head.loss_cls).__name__ for head in model.roi_head.bbox_head}
    assert losses == {'FederatedSigmoidLoss' if 'lvis' in name else 'CrossEntropyLoss'}
    test = cfg.model.test_cfg.rcnn
    assert (test.max_per_img, model.roi_head.mask_head.num_classes) == ((300, 1203) if 'lvis' in name else (100, 80))
    if size == 1536:
        assert (test.nms.type, test.nms.method, test.nms.iou_threshold) == ('soft_nms', 'linear', 0.6)
        assert test.maskness_thr == 0.5
    else:
        assert test.nms.type == 'nms' and 'maskness_thr' not in test


@pytest.mark.parametrize('name', SMALL_DATA)
def test_small_data(name):
    cfg, model = load(f'plain_vit/{name}'), built(f'plain_vit/{name}')
    assert model.roi_head.with_mask == ('mask' in name)
    trained = {each.removeprefix('net.blocks.').split('.')[0]
               for each, p in model.backbone.named_parameters() if p.requires_grad}
    assert trained == {'8', '9', '10', '11'}
    if 'dinov2' in name:
        # the official table, whatever the patch size
        assert model.backbone.net.pos_embed.shape == (1, 37 * 37 + 1, 384)
    rates = {name: group['lr'] for group in groups_of(cfg, model) for name in group['param_names']}
    assert rates['backbone.net.blocks.8.norm1.weight'] == pytest.approx(5e-5 * 0.7 ** 4)
    assert rates['rpn_head.rpn_conv.weight'] == 1e-3
    jitter, = (step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'LargeScaleJitter')
    resize, = (step for step in cfg.test_dataloader.dataset.pipeline if step.type == 'Resize')
    assert (jitter.image_size, *resize.scale) == (cfg.image_size,) * 3
    assert 'RandomFlip' not in str(cfg.train_dataloader)  # the jitter mirrors left and right


@pytest.mark.parametrize(('names', 'expected'), [
    ([], 'trainval'), (['trainval', 'test'], 'trainval'), (['instances_train', 'instances_val'], 'instances_train'),
    (['trainval', 'test', 'instances_train', 'instances_val'], 'trainval')])
@pytest.mark.parametrize('config', ['plain_vit/faster-rcnn_dinov2-s_lsj-240it_bccd',
                                    'yolov5/yolov5_convnext-mini_pafpn_bccd'])
def test_files_of_bccd(tmp_path, monkeypatch, config, names, expected):
    (tmp_path / 'annotations').mkdir()
    for name in names:
        (tmp_path / f'annotations/{name}.json').touch()
    monkeypatch.setenv('BCCD_ROOT', str(tmp_path))
    cfg = load_config(str(CONFIGS / f'{config}.py'))
    dataset = cfg.train_dataloader.dataset
    assert dataset.get('dataset', dataset).ann_file == f'annotations/{expected}.json'
    val_file = {'trainval': 'test', 'instances_train': 'instances_val'}[expected]
    assert cfg.val_evaluator.ann_file == f'{tmp_path}/annotations/{val_file}.json'
