"""OpenImages V6 (601 classes), boxes. The training draws all classes equally often.

Data: https://storage.googleapis.com/openimages/web/download_v6.html, in $VITDET_DATA/OpenImages (default
data/OpenImages); layout in data/README.md.
"""

_base_ = 'mmdet::_base_/datasets/openimages_detection.py'

data_root = '{{$VITDET_DATA:data}}/OpenImages/'
num_classes = 601

openimages = dict(type='OpenImagesDetDataset', data_root=data_root)
train_dataloader = dict(
    sampler=dict(_delete_=True, type='ClassAwareSampler', num_sample_class=1),
    dataset=dict(filter_cfg=dict(filter_empty_gt=True), **openimages))
val_dataloader = dict(dataset=dict(**openimages))
test_dataloader = val_dataloader
