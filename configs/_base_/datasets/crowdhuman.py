"""CrowdHuman (one class: full boxes of persons), from its own .odgt files: names for a config.

Data: https://www.crowdhuman.org/download.html, in $VITDET_DATA/CrowdHuman (default data/CrowdHuman); layout in
data/README.md.
"""

crowdhuman_root = '{{$VITDET_DATA:data}}/CrowdHuman/'
crowdhuman_classes = 1
crowdhuman_images = 15_000

crowdhuman = dict(type='CrowdHumanDataset', data_root=crowdhuman_root, data_prefix=dict(img='Images/'))
crowdhuman_train = dict(ann_file='annotation_train.odgt', filter_cfg=dict(filter_empty_gt=True, min_size=32),
                        **crowdhuman)
crowdhuman_val = dict(ann_file='annotation_val.odgt', test_mode=True, **crowdhuman)
# average precision, log-average miss rate and Jaccard index
crowdhuman_metric = dict(type='CrowdHumanMetric', ann_file=crowdhuman_root + 'annotation_val.odgt',
                         metric=['AP', 'MR', 'JI'])
