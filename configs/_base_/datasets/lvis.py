"""LVIS v1 (1203 classes): names for a config on top of ``coco_lsj.py``, which keeps the pipelines.

Data: https://www.lvisdataset.org/dataset, in $VITDET_DATA/lvis, and COCO's images in $VITDET_DATA/coco (default data/).
"""

lvis_root = '{{$VITDET_DATA:data}}/'
lvis_train, lvis_val = 'lvis/lvis_v1_train.json', 'lvis/lvis_v1_val.json'
lvis_classes = 1203

# the classes of the image and others drawn in proportion to frequency ** 0.5, 50 in all
lvis_loss = dict(type='FederatedSigmoidLoss', frequencies=lvis_root + lvis_train, num_sampled=50, power=0.5)
lvis = dict(type='LVISDetDataset', data_root=lvis_root, data_prefix=dict(img='coco/'))
lvis_filter = dict(filter_empty_gt=True, min_size=1)
lvis_repeats = dict(type='ClassBalancedDataset', oversample_thr=1e-3)  # of classes in less than one of 1000 images
lvis_metric = dict(type='LVISDetMetric', ann_file=lvis_root + lvis_val, metric=['bbox', 'segm'])
