"""Location of a small set with COCO's layout and 80 classes, images of up to 320 pixels.

Searched for in $COCO_MINI_ROOT, else in $VITDET_DATA/coco_mini_320 (default data/coco_mini_320). It cannot be
downloaded; create it from a part of COCO (annotations/, train2017/, val2017/, see data/README.md).
"""

import os

coco_mini_root = os.environ.get('COCO_MINI_ROOT', '{{$VITDET_DATA:data}}/coco_mini_320') + '/'
