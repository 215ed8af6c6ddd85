"""YOLOv5's detector: path aggregation neck and anchor-based head on maps of strides 8, 16 and 32.

A config adds the backbone, ``neck.in_channels`` and ``bbox_head.in_channels``.
"""

model = dict(
    type='SingleStageDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],  # of ImageNet, as the pre-trained backbones expect
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32),
    bbox_head=dict(
        type='YOLOv5Head',
        num_classes=80,
        anchors=[[(10, 13), (16, 30), (33, 23)], [(30, 61), (62, 45), (59, 119)], [(116, 90), (156, 198), (373, 326)]],
        strides=[8, 16, 32],
        gains=dict(box=0.05, cls=0.5, obj=1.0)),
    # for evaluation; in use, set score_thr=0.25, iou_threshold=0.45, multi_label=False
    test_cfg=dict(score_thr=0.001, iou_threshold=0.65, multi_label=True, nms_pre=30000, max_per_img=300))
