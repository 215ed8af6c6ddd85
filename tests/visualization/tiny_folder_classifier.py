"""A small classifier for the class folders of tests/datasets/tiny_classes.py."""

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from tests.datasets.tiny_classes import CLASSES


def write_classifier(folder, root, classes=CLASSES):
    """Write a config of a small classifier and a checkpoint for it; returns their paths."""
    text = f"""
custom_imports = dict(imports=['vitdet_plugin'], allow_failed_imports=False)
default_scope = 'mmpretrain'
data_preprocessor = dict(mean=[110.] * 3, std=[60.] * 3, to_rgb=True, num_classes={len(classes)})
model = dict(type='ImageClassifier',
             backbone=dict(type='ViTDet', arch=dict(embed_dim=32, depth=2, num_heads=2), img_size=32, patch_size=8,
                           window_size=2, pretrain_img_size=32),
             head=dict(type='LayerNormClsHead', num_classes={len(classes)}, in_channels=32))
pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(48, 32)), dict(type='PackInputs')]
train_pipeline = [pipeline[0], pipeline[1], dict(type='RandomFlip', prob=0.5), pipeline[2]]
dataset = dict(type='CustomDataset', data_prefix={str(root)!r}, extensions=('.png', '.jpg', '.webp', '.bmp'))
train_dataloader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                        dataset=dict(**dataset, pipeline=train_pipeline))
test_dataloader = dict(batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                       dataset=dict(**dataset, pipeline=pipeline))
test_evaluator = dict(type='Accuracy')
test_cfg = dict()
"""
    import mmpretrain.models  # noqa: F401
    init_default_scope('mmpretrain')
    (folder / 'classifier.py').write_text(text)
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(folder / 'classifier.py').model)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=tuple(classes)))),
               folder / 'weights.pth')
    return str(folder / 'classifier.py'), str(folder / 'weights.pth')
