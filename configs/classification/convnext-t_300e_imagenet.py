"""ConvNeXt-T on ImageNet-1k from scratch, 300 epochs (arXiv 2201.03545, appendix A.1)."""

_base_ = ['../_base_/datasets/imagenet_224.py', '../_base_/schedules/adamw_cosine_300e.py', '../_base_/runtime_cls.py']

model = dict(
    type='ImageClassifier',
    backbone=dict(type='ConvNeXtBackbone', arch='tiny', out_indices=(3,), out_norms=False, drop_path_rate=0.1),
    head=dict(type='LayerNormClsHead', num_classes=1000, in_channels=768,
              loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original')),
    train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]))

# the reference's rate of 4e-3 for 4096 images equals the schedule's 1e-3 for 1024
custom_hooks = [dict(type='EMAHook', momentum=1e-4, priority='ABOVE_NORMAL')]
