"""The InternImage configs equal the official recipes; one of each kind takes a step with a small model."""

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope

from tests.configs.loading import CONFIGS, built, groups_of, load
from tests.configs.shrinking import shrink_pipeline
from tests.end_to_end.tiny_set import CLASSES, write_tiny_set
from vitdet_plugin.config.loading import load_config

# of the official detectors: published millions of parameters, drop path, layer decay, rate
DETECTORS = {
    'mask-rcnn_internimage-t_fpn_1x': (49, 0.2, 1.0, 1e-4), 'mask-rcnn_internimage-t_fpn_3x': (49, 0.2, 1.0, 1e-4),
    'mask-rcnn_internimage-s_fpn_1x': (69, 0.3, 1.0, 1e-4), 'mask-rcnn_internimage-s_fpn_3x': (69, 0.3, 1.0, 1e-4),
    'mask-rcnn_internimage-b_fpn_1x': (115, 0.4, 1.0, 1e-4), 'mask-rcnn_internimage-b_fpn_3x': (115, 0.4, 1.0, 1e-4),
    'cascade-mask-rcnn_internimage-l_fpn_1x': (277, 0.4, 0.94, 1e-4),
    'cascade-mask-rcnn_internimage-l_fpn_3x': (277, 0.4, 0.90, 2e-4),
    'cascade-mask-rcnn_internimage-xl_fpn_1x': (387, 0.4, 0.94, 1e-4),
    'cascade-mask-rcnn_internimage-xl_fpn_3x': (387, 0.6, 0.90, 2e-4)}
# of the official classifiers: parameters, drop path, side, epochs, rate for 512 images, smoothing
CLASSIFIERS = {
    't_300e_imagenet': (29_918_424, 0.1, 224, 300, 5e-4, 0.1),
    's_300e_imagenet': (50_079_880, 0.4, 224, 300, 5e-4, 0.1),
    'b_300e_imagenet': (97_461_832, 0.5, 224, 300, 5e-4, 0.1),
    'l_20e_imagenet-384': (223_334_810, 0.1, 384, 20, 2e-5, 0.3),
    'xl_20e_imagenet-384': (334_819_780, 0.2, 384, 20, 2e-5, 0.3)}


@pytest.mark.parametrize('name', DETECTORS)
def test_detection_recipe(name):
    millions, drop_path, decay, rate = DETECTORS[name]
    cfg, model = load(f'internimage/{name}_coco'), built(f'internimage/{name}_coco')
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions
    assert cfg.model.backbone.drop_path_rate == drop_path
    is_3x, batch = name.endswith('3x'), 64 if name.startswith('cascade') and name.endswith('3x') else 16
    epoch = 118_000 / batch
    assert cfg.train_cfg.max_iters == epoch * (36 if is_3x else 12)
    assert cfg.param_scheduler[1].milestones == [int(epoch * at) for at in ((27, 33) if is_3x else (8, 11))]
    assert (cfg.param_scheduler[0].end, cfg.param_scheduler[0].start_factor) == (500, 0.001)
    assert cfg.auto_scale_lr.base_batch_size == batch and cfg.train_dataloader.batch_size == 2
    assert bool(cfg.get('custom_hooks')) == (batch == 64)
    choices = [step for step in cfg.train_dataloader.dataset.pipeline if step.type == 'RandomChoice']
    assert len(choices) == is_3x
    by_name = {n: group for group in groups_of(cfg, model) for n in group['param_names']}
    depth = model.backbone.num_layers
    assert by_name['backbone.patch_embed.conv1.weight']['lr'] == pytest.approx(rate * decay ** (depth + 1))
    assert by_name['backbone.levels.3.blocks.0.mlp.fc1.weight']['weight_decay'] == 0.05
    assert by_name['backbone.levels.0.blocks.0.gamma1']['weight_decay'] == 0
    assert by_name['neck.fpn_convs.0.conv.weight']['lr'] == rate
    gammas = [p for name, p in model.named_parameters() if 'gamma' in name]
    assert len(gammas) == 2 * depth and model.backbone.levels[0].blocks[0].layer_scale == 1.0


@pytest.mark.parametrize('name', CLASSIFIERS)
def test_classification_recipe(name):
    parameters, drop_path, side, epochs, rate, smoothing = CLASSIFIERS[name]
    cfg = load(f'classification/internimage-{name}')
    model = built(f'classification/internimage-{name}')
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert cfg.model.backbone.drop_path_rate == drop_path and cfg.train_cfg.max_epochs == epochs
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(rate * 1024 / 512)
    assert cfg.model.head.loss.label_smooth_val == smoothing and cfg.optim_wrapper.clip_grad.max_norm == 5.0
    assert bool(cfg.model.train_cfg.get('augments')) == (epochs == 300)
    train, val = cfg.train_dataloader.dataset.pipeline, cfg.val_dataloader.dataset.pipeline
    assert train[1].scale == val[1].scale == val[2].crop_size == side
    assert any(step.type == 'RandomErasing' for step in train) == (epochs == 300)


@pytest.mark.parametrize(('name', 'losses'), [
    ('mask-rcnn_internimage-t_fpn_3x', {'loss_cls', 'loss_bbox', 'loss_mask'}),
    ('cascade-mask-rcnn_internimage-l_fpn_3x', {'s0.loss_cls', 's2.loss_bbox', 's1.loss_mask'})])
def test_one_step(tmp_path, name, losses):
    write_tiny_set(tmp_path / 'set', images=4)
    cfg = shrunk(f'internimage/{name}_coco.py', tmp_path / 'set')
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    data = DATASETS.build(cfg.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([data[i] for i in range(2)]), training=True)
    found = model(**batch, mode='loss')
    assert losses <= set(found)
    model.parse_losses(found)[0].backward()
    untouched = [n for n, p in model.backbone.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not untouched
    with torch.no_grad():
        result = model.eval().test_step(pseudo_collate([DATASETS.build(cfg.val_dataloader.dataset)[0]]))[0]
    assert 'masks' in result.pred_instances


def shrunk(name: str, data_root):
    """Return a config for images of 64 pixels, with a model of about 0.1 M parameters."""
    cfg = load_config(str(CONFIGS / name))
    init_default_scope(cfg.default_scope)
    import mmdet.models  # noqa: F401
    model, width, classes = cfg.model, 16, len(CLASSES)
    model.backbone.update(arch=dict(channels=16, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8)), init_cfg=None)
    model.neck.update(in_channels=[16, 32, 64, 128], out_channels=width)
    model.rpn_head.update(in_channels=width, feat_channels=width)
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=width, fc_out_channels=32, num_classes=classes)
        if 'conv_out_channels' in head:
            head.conv_out_channels = width
    model.roi_head.bbox_roi_extractor.out_channels = model.roi_head.mask_roi_extractor.out_channels = width
    model.roi_head.mask_head.update(in_channels=width, conv_out_channels=width, num_classes=classes)
    model.train_cfg.rpn_proposal.max_per_img = 50
    for split in ('train', 'val'):
        dataset = cfg[f'{split}_dataloader'].dataset
        dataset.update(data_root=str(data_root), ann_file='coco.json', data_prefix=dict(img='images/'),
                       metainfo=dict(classes=CLASSES))
        shrink_pipeline(dataset.pipeline, (64, 64), (32, 48))
    return cfg
