"""Pipelines of DINO with images of up to 2000 pixels: names for a config, as the data sets have their own loaders."""

load_image, load_boxes = dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)
flip, pack = dict(type='RandomFlip', prob=0.5), dict(type='PackDetInputs')
# shorter side of 600 to 1200 pixels; the longer side is at most 2000
range_resize = dict(type='RandomResize', scale=[(2000, 600), (2000, 1200)], keep_ratio=True)
large_train_pipeline = [load_image, load_boxes, flip, range_resize, pack]

resize = dict(type='Resize', scale=(2000, 1000), keep_ratio=True)
meta_keys = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
pack_test = dict(pack, meta_keys=meta_keys)
large_test_pipeline = [load_image, resize, load_boxes, pack_test]  # evaluation requires the original boxes
