"""Pascal VOC 2007 and 2012 (20 classes): training on both trainval sets, evaluation on the test set of 2007.

Data: http://host.robots.ox.ac.uk/pascal/VOC, in $VITDET_DATA/VOCdevkit (default data/VOCdevkit); layout in
data/README.md.
"""

_base_ = 'mmdet::_base_/datasets/voc0712.py'

data_root = '{{$VITDET_DATA:data}}/VOCdevkit/'
num_classes = 20

voc = dict(type='VOCDataset', data_root=data_root, filter_cfg=dict(filter_empty_gt=True, min_size=32))
voc07 = dict(voc, ann_file='VOC2007/ImageSets/Main/trainval.txt', data_prefix=dict(sub_data_root='VOC2007/'))
voc12 = dict(voc, ann_file='VOC2012/ImageSets/Main/trainval.txt', data_prefix=dict(sub_data_root='VOC2012/'))
both = dict(_delete_=True, type='ConcatDataset', ignore_keys=['dataset_type'])  # with datasets=[…]

# the schedules count iterations
train_dataloader = dict(sampler=dict(_delete_=True, type='InfiniteSampler'))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
