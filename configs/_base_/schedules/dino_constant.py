"""Fine-tuning of DINO from Objects365: a constant rate after 500 iterations of warm-up. A config sets the lengths."""

_base_ = 'dino_coco_1x.py'

batch = 16  # 16 GPUs x 1 image; the reference does not state their number
warm_up = dict(type='WarmupLR', start_factor=0.001, by_epoch=False, begin=0, end=500)
constant = dict(type='ConstantLR', factor=1.0, by_epoch=False, begin=500)
auto_scale_lr = dict(base_batch_size=batch)
