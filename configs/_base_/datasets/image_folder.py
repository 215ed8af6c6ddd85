"""A folder of classes of your own, <root>/{train,val}/<class>/<image>; the folders give the class names.

The root is $IMAGE_FOLDER_ROOT, else $VITDET_DATA/images (default data/images). Labels are numbered in the order of the
names. Training stores the class names in the config in the work directory and in every checkpoint. This is a second
base of a config for another folder of classes, which uses these variables.
"""

import os
import pathlib

folder_root = os.environ.get('IMAGE_FOLDER_ROOT', '{{$VITDET_DATA:data}}/images') + '/'
folder_classes = tuple(sorted(path.name for path in pathlib.Path(folder_root).glob('train/*')
                              if path.is_dir() and not path.name.startswith('.')))
folder_data = dict(data_root=folder_root, metainfo=dict(classes=folder_classes))
folder_model = dict(data_preprocessor=dict(num_classes=len(folder_classes)), head=dict(num_classes=len(folder_classes)))
folder_metrics = [dict(type='Accuracy', topk=(1, min(5, max(1, len(folder_classes))))),
                  dict(type='ClassMeans', items=['f1-score'])]
