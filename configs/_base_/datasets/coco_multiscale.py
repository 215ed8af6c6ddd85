"""COCO instance segmentation, multi-scale crops in training, images of up to 1333 x 800 pixels in evaluation."""

_base_ = ['coco_lsj.py', 'multiscale_crop.py']

train_dataloader = dict(batch_size=2, dataset=dict(pipeline=_base_.multiscale_crop_pipeline))

resize = dict(type='Resize', scale=(1333, 800), keep_ratio=True)
test_pipeline = [_base_.load_image, resize, _base_.pack_test]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
