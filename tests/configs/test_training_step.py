"""Recipes that differ in data, heads or loss, with small models: one training step, one prediction."""

import json

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, init_default_scope

from tests.configs.loading import CONFIGS
from tests.end_to_end.tiny_set import CLASSES, write_tiny_set
from vitdet_plugin.config.loading import load_config


def shrunk(name: str, data_root, ann_file: str):
    """Return a config for images of 64 pixels, with a model of about 0.1 M parameters."""
    cfg = load_config(str(CONFIGS / name))
    init_default_scope(cfg.default_scope)
    model, width, classes = cfg.model, 16, len(CLASSES)
    model.data_preprocessor.pad_size_divisor = 64
    arch = dict(embed_dim=32, depth=4, num_heads=2)
    if model.backbone.type == 'TimmViTDet':
        model.backbone.update(model=dict(arch, family='VisionTransformer'), frozen_stages=2)
    else:
        model.backbone.arch = arch
    model.backbone.update(img_size=64, window_size=2, init_cfg=None)
    model.neck.update(in_channels=32, out_channels=width)
    model.rpn_head.update(in_channels=width, feat_channels=width)
    heads = model.roi_head.bbox_head
    for head in heads if isinstance(heads, list) else [heads]:
        head.update(in_channels=width, conv_out_channels=width, fc_out_channels=32, num_classes=classes)
        if 'frequencies' in head.loss_cls:
            head.loss_cls.frequencies = str(data_root / ann_file)
    model.roi_head.bbox_roi_extractor.out_channels = width
    if model.roi_head.get('mask_head'):
        model.roi_head.mask_roi_extractor.out_channels = width
        model.roi_head.mask_head.update(in_channels=width, conv_out_channels=width, num_classes=classes)
    model.train_cfg.rpn_proposal.max_per_img = 50
    for split in ('train', 'val'):
        dataset = cfg[f'{split}_dataloader'].dataset
        leaf = dataset.get('dataset', dataset)
        leaf.update(data_root=str(data_root), ann_file=ann_file, data_prefix=dict(img='images/'),
                    metainfo=dict(classes=CLASSES))
        for step in leaf.pipeline:
            step.update({'image_size': 64} if 'image_size' in step else {'scale': (64, 64)} if 'scale' in step else {})
    return cfg


def edited(folder, change) -> str:
    """Write the tiny set's annotations after ``change(content)`` and return the file name."""
    content = json.loads((folder / 'coco.json').read_text())
    change(content)
    (folder / 'edited.json').write_text(json.dumps(content))
    return 'edited.json'


def unchanged(content: dict) -> None:
    """COCO, with masks."""


def as_lvis(content: dict) -> None:
    for image in content['images']:
        image.update(neg_category_ids=[], not_exhaustive_category_ids=[])
        image['coco_url'] = f'http://images.cocodataset.org/./{image.pop("file_name")}'
    for each in content['annotations']:
        del each['iscrowd']
    for category in content['categories']:
        category.update(frequency='f', image_count=2)


def without_masks(content: dict) -> None:
    for each in content['annotations']:
        del each['segmentation']


@pytest.mark.parametrize(('name', 'change', 'losses', 'has_masks'), [
    ('vitdet/faster-rcnn_vitdet-b_lsj-100e_coco.py', without_masks, {'loss_cls', 'loss_bbox'}, False),
    ('vitdet/mask-rcnn_vitdet-b_easycv-100e_coco.py', unchanged, {'loss_cls', 'loss_bbox', 'loss_mask'}, True),
    ('vitdet/mask-rcnn_vitdet-b_lsj-100e-1xb2-cp_coco.py', unchanged, {'loss_mask'}, True),
    ('vitdet/mask-rcnn_vitdet-b_lsj-100e_lvis.py', as_lvis, {'loss_cls', 'loss_mask'}, True),
    ('vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_lvis.py', as_lvis, {'s0.loss_cls', 's2.loss_bbox', 'loss_mask'}, True),
    ('plain_vit/faster-rcnn_dinov2-s_lsj-240it_bccd.py', without_masks, {'loss_cls', 'loss_bbox'}, False),
    ('plain_vit/mask-rcnn_dinov2-s_lsj-240it_fruits-nuts.py', unchanged, {'loss_cls', 'loss_mask'}, True),
    ('plain_vit/cascade-mask-rcnn_dinov2-s_lsj-360it_coco-mini.py', unchanged, {'s0.loss_cls', 'loss_mask'}, True),
])
def test_one_step(tmp_path, name, change, losses, has_masks):
    write_tiny_set(tmp_path / 'set', images=4)
    cfg = shrunk(name, tmp_path / 'set', edited(tmp_path / 'set', change))
    from mmdet.registry import MODELS
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    data = DATASETS.build(cfg.train_dataloader.dataset)
    batch = model.data_preprocessor(pseudo_collate([data[i] for i in range(2)]), training=True)
    assert hasattr(batch['data_samples'][0].gt_instances, 'masks') == has_masks
    found = model(**batch, mode='loss')
    assert losses <= set(found)
    model.parse_losses(found)[0].backward()
    grads = {p_name.split('.')[0] for p_name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert grads == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    with torch.no_grad():
        result = model.eval().test_step(pseudo_collate([DATASETS.build(cfg.val_dataloader.dataset)[0]]))[0]
    assert ('masks' in result.pred_instances) == has_masks
