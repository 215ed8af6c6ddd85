"""A linear classifier on DINOv2's ViT-S for a custom folder, <root>/{train,val}/<class>/<image>: 30 ep.

The root is $IMAGE_FOLDER_ROOT, else $VITDET_DATA/images (default data/images). Training stores the class names in the
config in the work directory and in every checkpoint.
"""

import os
import pathlib

_base_ = 'dinov2-s_probe-30e_plant-seedlings.py'

data_root = os.environ.get('IMAGE_FOLDER_ROOT', '{{$VITDET_DATA:data}}/images') + '/'
# labels are numbered in the order of the names
classes = tuple(sorted(path.name for path in pathlib.Path(data_root).glob('train/*')
                       if path.is_dir() and not path.name.startswith('.')))

model = dict(data_preprocessor=dict(num_classes=len(classes)), head=dict(num_classes=len(classes)))
common = dict(data_root=data_root, metainfo=dict(classes=classes))
train_dataloader = dict(dataset=common)
val_dataloader = dict(dataset=common)
test_dataloader = val_dataloader
val_evaluator = [dict(type='Accuracy', topk=(1, min(5, max(1, len(classes))))),
                 dict(type='SingleLabelMetric', items=['f1-score'])]
test_evaluator = val_evaluator
