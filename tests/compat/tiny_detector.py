"""A Mask R-CNN small enough for tests, and a batch for it, without the model code of this project."""

import numpy as np
import torch
from mmengine.config import ConfigDict

CLASSES = 3


def tiny_mask_rcnn(nms_type: str = 'nms') -> ConfigDict:
    """Config of mmdet's Mask R-CNN on ResNet-18 with small heads and samplers."""
    def rpn(n):
        return dict(nms_pre=n, max_per_img=n // 2, nms=dict(type='nms', iou_threshold=0.7), min_bbox_size=0)

    def assigner(pos, neg):
        return dict(type='MaxIoUAssigner', pos_iou_thr=pos, neg_iou_thr=neg, min_pos_iou=neg, match_low_quality=True,
                    ignore_iof_thr=-1)

    def sampler(num, add_gt):
        return dict(type='RandomSampler', num=num, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=add_gt)

    def head(kind, size, **kwargs):
        layer = dict(type='RoIAlign', output_size=size, sampling_ratio=0)
        return {f'{kind}_roi_extractor': dict(type='SingleRoIExtractor', roi_layer=layer, out_channels=16,
                                              featmap_strides=[4, 8, 16, 32]), f'{kind}_head': dict(**kwargs)}

    coder = dict(type='DeltaXYWHBBoxCoder', target_means=[0., 0., 0., 0.], target_stds=[0.1, 0.1, 0.2, 0.2])
    return ConfigDict(
        type='MaskRCNN', _scope_='mmdet',
        data_preprocessor=dict(type='DetDataPreprocessor', mean=[0, 0, 0], std=[255, 255, 255], pad_mask=True,
                               pad_size_divisor=32),
        backbone=dict(type='ResNet', depth=18, base_channels=16, frozen_stages=-1, norm_cfg=dict(type='BN'),
                      norm_eval=True),
        neck=dict(type='FPN', in_channels=[16, 32, 64, 128], out_channels=16, num_outs=5),
        rpn_head=dict(type='RPNHead', in_channels=16, feat_channels=16, bbox_coder=coder,
                      anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[0.5, 1., 2.],
                                            strides=[4, 8, 16, 32, 64])),
        roi_head=dict(type='StandardRoIHead',
                      **head('bbox', 7, type='Shared2FCBBoxHead', in_channels=16, fc_out_channels=32, bbox_coder=coder,
                             roi_feat_size=7, num_classes=CLASSES),
                      **head('mask', 14, type='FCNMaskHead', num_convs=1, in_channels=16, conv_out_channels=16,
                             num_classes=CLASSES)),
        train_cfg=dict(rpn=dict(assigner=assigner(0.7, 0.3), sampler=sampler(32, False), allowed_border=-1,
                                pos_weight=-1),
                       rpn_proposal=rpn(100),
                       rcnn=dict(assigner=assigner(0.5, 0.5), sampler=sampler(16, True), mask_size=28, pos_weight=-1)),
        test_cfg=dict(rpn=rpn(100), rcnn=dict(score_thr=0.01, nms=dict(type=nms_type, iou_threshold=0.5),
                                              max_per_img=20, mask_thr_binary=0.5)))


def batch(size: int = 64) -> dict:
    """Two images with two boxes and masks each, as mmdet's collate would give them."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    generator = np.random.default_rng(0)
    inputs, samples = [], []
    for _ in range(2):
        boxes = np.array([[4, 6, 30, 28], [20, 16, 60, 56]], np.float32)
        masks = np.zeros((2, size, size), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(metainfo=dict(img_shape=(size, size), ori_shape=(size, size), scale_factor=(1., 1.),
                                             batch_input_shape=(size, size), pad_shape=(size, size), img_id=0))
        sample.gt_instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.tensor([0, 2]),
                                           masks=BitmapMasks(masks, size, size))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        inputs.append(torch.from_numpy(generator.integers(0, 255, (3, size, size), dtype=np.uint8)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)
