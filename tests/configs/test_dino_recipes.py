"""The DINO configs equal OpenGVLab's recipes; the others are built as proposed."""

import pytest

from tests.configs.loading import built, groups_of, load
from vitdet_plugin.checkpoints.published import find_published

# published millions of parameters, drop path, layer decay, weight decay, boxes per image, blocks
INTERNIMAGE = {
    'dino_internimage-t_4scale_1x': (49, 0.2, 0.9, 1e-4, 100, 30),
    'dino_internimage-l_4scale_1x': (241, 0.4, 0.9, 1e-4, 300, 37),
    'dino_internimage-l_4scale_1x-backbone-01x': (241, 0.4, None, 0.05, 300, 37)}
PROPOSALS = ['vitdet-b', 'vitdet-l', 'vil-s', 'convnext-t', 'volo-d1']


def check_schedule(cfg):
    epoch = 118_000 / 16
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval) == (12 * epoch, epoch)
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end, steps.milestones) == (0.001, 500, [11 * epoch])
    assert cfg.optim_wrapper.clip_grad.max_norm == 0.1 and cfg.optim_wrapper.optimizer.lr == 1e-4
    assert cfg.auto_scale_lr.base_batch_size == 16 and cfg.train_dataloader.batch_size == 2
    whole, cropped = next(step for step in cfg.train_dataloader.dataset.pipeline
                          if step.type == 'RandomChoice').transforms
    assert [whole[0].scales[i] for i in (0, 1, -1)] == [(480, 1333), (512, 1333), (800, 1333)]
    assert cropped[0].scales == [(400, 4200), (500, 4200), (600, 4200)] and cropped[1].crop_size == (384, 600)
    assert not cropped[1].allow_negative_crop and cropped[2] == whole[0]


@pytest.mark.parametrize('name', INTERNIMAGE)
def test_recipe_of_opengvlab(name):
    millions, drop_path, decay, weight_decay, most, depth = INTERNIMAGE[name]
    cfg, model = load(f'dino/{name}_coco'), built(f'dino/{name}_coco')
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions
    check_schedule(cfg)
    assert cfg.model.data_preprocessor.pad_size_divisor == 32 and cfg.model.test_cfg.max_per_img == most
    assert cfg.model.backbone.drop_path_rate == drop_path and model.backbone.out_indices == (1, 2, 3)
    assert (model.num_queries, model.dn_query_generator.num_dn_queries) == (900, 100)
    assert (model.dn_query_generator.label_noise_scale, model.dn_query_generator.box_noise_scale) == (0.5, 1.0)
    assert (model.positional_encoding.temperature, model.positional_encoding.normalize) == (20, True)
    assert len(model.encoder.layers) == len(model.decoder.layers) == 6
    assert model.neck.convs[0].conv.in_channels == cfg.model.neck.in_channels[0] == model.backbone.out_channels[0]
    losses = [each.loss_weight for each in (model.bbox_head.loss_cls, model.bbox_head.loss_bbox,
                                            model.bbox_head.loss_iou)]
    assert losses == [1.0, 5.0, 2.0] and model.encoder.layers[0].ffn.feedforward_channels == 2048
    groups = {each: group for group in groups_of(cfg, model) for each in group['param_names']}
    assert model.backbone.num_layers == depth
    if decay is None:
        assert groups['backbone.patch_embed.conv1.weight']['lr'] == pytest.approx(1e-5)
        assert groups['level_embed']['lr'] == 1e-4
        assert {group['weight_decay'] for group in groups.values()} == {0.05}
    else:
        assert groups['backbone.patch_embed.conv1.weight']['lr'] == pytest.approx(1e-4 * decay ** (depth + 1))
        assert groups['level_embed']['lr'] == groups['backbone.patch_embed.conv1.weight']['lr']
        assert groups['encoder.layers.0.self_attn.sampling_offsets.weight']['weight_decay'] == 0
        assert groups['backbone.levels.3.blocks.0.gamma1']['weight_decay'] == 0
    for each in ('encoder.layers.5.ffn.layers.1.weight', 'decoder.ref_point_head.layers.0.weight',
                 'query_embedding.weight'):
        assert (groups[each]['lr'], groups[each]['weight_decay']) == (1e-4, weight_decay)
    published = find_published(f'{name}_coco')
    assert published is not None and published.url.startswith('https://huggingface.co/OpenGVLab/InternImage/')


@pytest.mark.parametrize('name', PROPOSALS)
def test_proposals(name):
    cfg, model = load(f'dino/dino_{name}_4scale_1x_coco'), built(f'dino/dino_{name}_4scale_1x_coco')
    check_schedule(cfg)
    strides = model.backbone.out_strides
    if len(strides) == 1:  # 8, 16, 32, and the last subsampled
        assert [strides[0] / scale for scale in cfg.model.neck.scale_factors] == [8, 16, 32]
        assert model.neck.num_outs == 4
    else:
        assert strides == (8, 16, 32) and len(model.neck.convs) + len(model.neck.extra_convs) == 4
    assert min(group['lr'] for group in groups_of(cfg, model)) < 0.5e-4 and not model.backbone.frozen_stages >= 0


@pytest.mark.parametrize(('name', 'rate', 'stem'), [
    ('deformable_detr/deformable-detr_internimage-t_50e', 2e-4, 2e-5),
    ('mask2former/mask2former_internimage-t_lsj-50e', 1e-4, 1e-5),
    ('mask2former/mask2former_vitdet-b_lsj-50e', 1e-4, 1e-4 * 0.7 ** 13),
    ('rtmdet/rtmdet_convnext-t_300e', 1e-3, 1e-3 * 0.8 ** 7),
    ('atss/atss_internimage-t_fpn_1x', 1e-4, 1e-4), ('fcos/fcos_internimage-t_fpn_1x', 1e-4, 1e-4)])
def test_mmdets_detectors_with_the_backbone_exchanged(name, rate, stem):
    cfg, model = load(f'{name}_coco'), built(f'{name}_coco')
    groups = {each: group for group in groups_of(cfg, model) for each in group['param_names']}
    assert cfg.optim_wrapper.optimizer.lr == rate
    assert groups[f'backbone.{model.backbone.stem_weight}']['lr'] == pytest.approx(stem)
    assert max(group['lr'] for group in groups.values()) == rate
    queries = [each for each in groups if 'query_embed' in each and name.startswith('mask2former')]
    assert all(groups[each]['weight_decay'] == 0 for each in queries) and bool(queries) == ('mask2former' in name)
    assert cfg.custom_imports.imports == ['vitdet_plugin'] and cfg.model.data_preprocessor.bgr_to_rgb
    assert cfg.model.data_preprocessor.mean == [123.675, 116.28, 103.53]


def test_the_small_configs_evaluate_at_the_size_of_the_training():
    """A dict of the base files that is given again keeps their keys: scale=(1024, 1024) next to scale_factor."""
    demo, small = (next(step for step in load(f'dino/{name}').val_dataloader.dataset.pipeline if step.type == 'Resize')
                   for name in ('dino_vitdet-micro_1000it_demo', 'dino_vitdet-s_dinov2_small-data_bccd'))
    assert dict(demo) == dict(type='Resize', scale_factor=1.4) and small.scale == (320, 320)
    cfg = load('dino/dino_vitdet-micro_1000it_demo')
    jitter = next(step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'LargeScaleJitter')
    assert jitter.image_size == cfg.demo_side and jitter.scale[0] < 1 < demo.scale_factor <= jitter.scale[1]
