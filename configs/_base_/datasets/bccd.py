"""Location, files and classes of BCCD, blood cells: https://github.com/Shenggan/BCCD_Dataset.

Searched for in $BCCD_ROOT, else in $VITDET_DATA/bccd (default data/bccd), with the images in ``images`` and the files
that vitdet convert makes of the set's own split (configs/yolov5/README.md), or instances_train.json and
instances_val.json.
"""

import os

bccd_root = os.environ.get('BCCD_ROOT', '{{$VITDET_DATA:data}}/bccd') + '/'
converted, renamed = [f'annotations/{name}.json' for name in ('trainval', 'test')], [
    f'annotations/instances_{name}.json' for name in ('train', 'val')]
bccd_train, bccd_val = renamed if os.path.isfile(bccd_root + renamed[0]) and not os.path.isfile(
    bccd_root + converted[0]) else converted
bccd_classes = ('Platelets', 'RBC', 'WBC')
