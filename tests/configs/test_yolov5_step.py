"""The one-stage configs with small models: one training step, one prediction; settings of the recipe."""

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

from tests.backbones.small_configs import small_cfg
from tests.configs.loading import CONFIGS, NAMES, load
from tests.end_to_end.tiny_set import CLASSES, write_tiny_set
from vitdet_plugin.config.loading import load_config

FAMILY = [name for name in NAMES if name.startswith('yolov5/')]
COCO = [name for name in FAMILY if name.endswith('coco.py')]
SIDE = 64


def shrunk(name, data_root):
    """Return a config for images of 64 pixels with a model that trains in milliseconds."""
    cfg = load_config(str(CONFIGS / name))
    init_default_scope(cfg.default_scope)
    small = small_cfg(MODELS.get(cfg.model.backbone.type))
    small.pop('out_indices', None)
    cfg.model.backbone.update(**small, init_cfg=None)
    widths = list(MODELS.build(cfg.model.backbone).out_channels)
    if len(widths) == 3:
        cfg.model.neck.update(in_channels=widths, out_channels=[16] * 3)
    else:
        cfg.model.neck[0].update(in_channels=widths[0], out_channels=16)
        cfg.model.neck[1].update(in_channels=[16] * 3, out_channels=[16] * 3)
    cfg.model.bbox_head.update(in_channels=[16] * 3, num_classes=len(CLASSES), img_size=SIDE)
    for split in ('train', 'val'):
        _shrink_data(cfg[f'{split}_dataloader'].dataset, data_root)
    return cfg


def _shrink_data(data, data_root):
    if 'ann_file' in data:
        data.update(data_root=str(data_root), ann_file='coco.json', data_prefix=dict(img='images/'),
                    metainfo=dict(classes=CLASSES))
    else:
        _shrink_data(data.dataset, data_root)
    if 'img_size' in data:
        data.img_size = SIDE
    for step in data.get('pipeline', ()):
        step.update({'img_size': SIDE} if 'img_size' in step else {})


@pytest.mark.parametrize('name', FAMILY)
def test_one_step_and_one_prediction(tmp_path, name):
    cfg = shrunk(name, write_tiny_set(tmp_path / 'set', images=6))
    from mmdet.registry import MODELS as DETECTORS
    torch.manual_seed(0)
    np.random.seed(0)
    model = DETECTORS.build(cfg.model)
    model.init_weights()
    data = DATASETS.build(cfg.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([data[i] for i in range(4)]), training=True)
    assert batch['inputs'].shape == (4, 3, SIDE, SIDE)
    assert sum(len(sample.gt_instances) for sample in batch['data_samples']) > 0
    losses = model.train()(**batch, mode='loss')
    assert set(losses) == {'loss_bbox', 'loss_obj', 'loss_cls'}
    model.parse_losses(losses)[0].backward()
    unused = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused  # distributed training requires this
    val = DATASETS.build(cfg.val_dataloader.dataset)
    with torch.no_grad():
        found = model.eval().test_step(pseudo_collate([val[i] for i in range(2)]))
    for sample in found:
        boxes = sample.pred_instances.bboxes
        assert len(boxes) and boxes.min() >= 0 and boxes.max() <= SIDE


def test_the_published_recipe():
    cfg = load('yolov5/yolov5_convnext-t_pafpn_sgd-300e_coco')
    optimizer, (_, warmup, average) = cfg.optim_wrapper.optimizer, cfg.custom_hooks
    assert (optimizer.lr, optimizer.momentum, optimizer.weight_decay, optimizer.nesterov) == (0.01, 0.937, 5e-4, True)
    assert cfg.optim_wrapper.clip_grad.max_norm == 10 and cfg.param_scheduler[0].end_factor == 0.01
    assert (warmup.iters, warmup.bias_lr, warmup.momentum) == (5531, 0.1, 0.8)
    assert (average.ema_type, average.momentum, average.gamma, average.update_buffers) == (
        'ExpMomentumEMA', 1e-4, 2000, True)
    assert cfg.model.neck.out_channels == [192, 384, 384]
    assert list(cfg.model.data_preprocessor.mean) == [123.675, 116.28, 103.53]


@pytest.mark.parametrize('name', COCO)
def test_schedule_of_coco(name):
    cfg = load(name)
    assert cfg.train_cfg.max_iters * 8 * cfg.train_dataloader.batch_size == 300 * 118_000
    assert cfg.auto_scale_lr.base_batch_size == 64
    assert cfg.custom_hooks[0].type == 'AutoAnchorHook'


def test_the_larger_recipe_mixes_mosaics(tmp_path):
    cfg = shrunk('yolov5/yolov5_convnext-b_pafpn_adamw-300e_coco.py',
                 write_tiny_set(tmp_path / 'set', images=4))
    outer = cfg.train_dataloader.dataset
    assert [step.type for step in outer.pipeline][0] == 'MosaicMixUp'
    assert [step.type for step in outer.dataset.pipeline] == ['MosaicAffine']
    outer.pipeline[0].prob = 1.0
    data, mixed = DATASETS.build(outer), []
    mixture = data.pipeline[0]
    data.pipeline[0] = lambda results: mixed.append(results['mix_results'][0]) or mixture(results)
    data.pipeline[0].get_indexes = mixture.get_indexes
    assert data[0]['inputs'].shape == (3, SIDE, SIDE)
    assert [each['img'].shape for each in mixed] == [(SIDE, SIDE, 3)] and 'mix_results' not in mixed[0]


def test_the_inferencer_stores_the_letterbox_offset():
    from vitdet_plugin.engine.inference import TestPipeline
    packed = TestPipeline(load('yolov5/yolov5_convnext-mini_pafpn_demo'))(np.zeros((40, 20, 3), np.uint8))
    assert packed['data_samples'].letterbox_offset == (56, 0) and packed['inputs'].shape == (3, 224, 224)
