"""Two InternImage-H (CBNetV2) in DINO, trained on Objects365, then on OpenImages V6 (OpenGVLab's ``openimages_ss``).

100,000 it from the weights of Objects365, at a constant rate.
"""

_base_ = ['../_base_/models/dino_cb-internimage-h.py', '../_base_/datasets/openimages.py',
          '../_base_/datasets/large_images.py', '../_base_/schedules/dino_constant.py', '../_base_/runtime.py']

max_iters, val_interval = 100_000, 2000
load_from = 'dino_cb-internimage-h_4scale_objects365-80classes'
model = dict(bbox_head=dict(num_classes=_base_.num_classes))

# the metric reads the boxes and the labels of whole images from the sample
pack_test = dict(_base_.pack, meta_keys=(*_base_.meta_keys, 'instances', 'image_level_labels'))
test_pipeline = [_base_.load_image, _base_.resize, _base_.load_boxes, pack_test]
train_dataloader = dict(batch_size=1, dataset=dict(pipeline=_base_.large_train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(paramwise_cfg=_base_.layer_rates)
param_scheduler = [_base_.warm_up, dict(_base_.constant, end=max_iters)]
train_cfg = dict(max_iters=max_iters, val_interval=val_interval)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=val_interval))
