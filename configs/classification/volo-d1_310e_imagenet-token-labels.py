"""VOLO-D1 with token labels, the authors' recipe: soft labels of every token from files (arXiv 2104.10858).

Another network makes the files beforehand: <token_labels>/<class>/<image>.pt, see configs/volo/README.md.
"""

_base_ = 'volo-d1_310e_imagenet.py'

token_labels = '{{$VITDET_DATA:data}}/imagenet_token_labels/'

model = dict(head=dict(token_smoothing=0.1))

random_crop = dict(_base_.random_crop, type='RandomResizedCropWithBox')
load_labels = dict(type='LoadTokenLabels', root=token_labels, grid=_base_.image_size // 16)
pack = dict(_base_.pack, algorithm_keys=['gt_token_classes', 'gt_token_logits', 'gt_cls_logits'])
train_pipeline = [
    _base_.load_image, random_crop, _base_.flip, load_labels, _base_.rand_augment, _base_.erase, pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
