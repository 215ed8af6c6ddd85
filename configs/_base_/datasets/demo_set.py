"""Location and classes of the demo set. `vitdet demo --data-only` writes it to data/demo."""

demo_root = 'data/demo/'
demo_classes = ('ball', 'ring', 'star', 'brick', 'leaf')
demo_side = 160  # longer side of the images
demo_train = dict(data_root=demo_root, metainfo=dict(classes=demo_classes), ann_file='annotations/train.json',
                  data_prefix=dict(img='train/'))
demo_val = dict(data_root=demo_root, metainfo=dict(classes=demo_classes), ann_file='annotations/val.json',
                data_prefix=dict(img='val/'))
demo_evaluator = dict(ann_file=demo_root + 'annotations/val.json')
