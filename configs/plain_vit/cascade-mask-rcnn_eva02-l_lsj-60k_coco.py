"""EVA-02-L, Cascade Mask R-CNN, COCO, 60,000 iterations at 1024 pixels (``eva02_L_coco_bsl``)."""

_base_ = 'cascade-mask-rcnn_eva02-b_lsj-60k_coco.py'

model = dict(backbone=_base_.eva02_large, neck=dict(in_channels=1024))

batch = 144
train_dataloader = dict(batch_size=18)  # 8 GPUs x 18 images
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8), optimizer=dict(lr=6e-5))
auto_scale_lr = dict(base_batch_size=batch)
