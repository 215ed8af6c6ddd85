"""VOLO-D1 with token labels, the authors' recipe: soft labels of every place from files (arXiv 2104.10858).

The files are made beforehand by another network: <token_labels>/<class>/<picture>.pt, see configs/volo/README.md.
"""

_base_ = 'volo-d1_310e_imagenet.py'

token_labels = 'data/imagenet_token_labels/'

model = dict(head=dict(token_smoothing=0.1))

train_pipeline = [dict(step) for step in _base_.train_pipeline]
train_pipeline[1].update(type='RandomResizedCropWithBox')
train_pipeline[2:3] = [train_pipeline[2], dict(type='LoadTokenLabels', root=token_labels, grid=_base_.image_size // 16)]
train_pipeline[-1].update(algorithm_keys=['gt_token_classes', 'gt_token_logits', 'gt_cls_logits'])
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
