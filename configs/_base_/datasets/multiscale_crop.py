"""Training pipeline with sides of 480 to 800 pixels; half of the images are cropped between two resizes (DETR)."""

_sides = [(side, 1333) for side in range(480, 801, 32)]
_resize_and_crop = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomChoice', transforms=[
        [dict(type='RandomChoiceResize', scales=_sides, keep_ratio=True)],
        [dict(type='RandomChoiceResize', scales=[(400, 1333), (500, 1333), (600, 1333)], keep_ratio=True),
         dict(type='RandomCrop', crop_type='absolute_range', crop_size=(384, 600), allow_negative_crop=True),
         dict(type='RandomChoiceResize', scales=_sides, keep_ratio=True)]]),
    dict(type='PackDetInputs'),
]
_load_image = dict(type='LoadImageFromFile')
multiscale_crop_pipeline = [
    _load_image, dict(type='LoadAnnotations', with_bbox=True, with_mask=True), *_resize_and_crop]
multiscale_crop_boxes = [_load_image, dict(type='LoadAnnotations', with_bbox=True), *_resize_and_crop]
