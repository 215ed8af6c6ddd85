"""A small cascade head built from the shipped config, with random features and proposals."""

from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

CONFIG = Path(__file__).parents[2] / 'configs/vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco.py'
CLASSES, WIDTH, SIZE = 3, 8, 64


def cascade(with_mask: bool = True, loss_cls: dict | None = None):
    """The RoI head of the config, 8 wide, with random weights."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIG).model
    head = cfg.roi_head
    for box_head in head.bbox_head:
        box_head.update(in_channels=WIDTH, conv_out_channels=WIDTH, fc_out_channels=16, num_classes=CLASSES)
        if loss_cls is not None:
            box_head.loss_cls = loss_cls
    head.mask_head.update(in_channels=WIDTH, conv_out_channels=WIDTH, num_classes=CLASSES)
    head.bbox_roi_extractor.out_channels = head.mask_roi_extractor.out_channels = WIDTH
    if not with_mask:
        head.pop('mask_head')
        head.pop('mask_roi_extractor')
    head.update(train_cfg=cfg.train_cfg.rcnn, test_cfg={**cfg.test_cfg.rcnn, 'score_thr': 0.0})
    torch.manual_seed(0)
    module = MODELS.build(head)
    for name, p in module.named_parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.5 if 'fc_' in name else 0.1)
    return module


def features(batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, WIDTH, SIZE // stride, SIZE // stride, generator=generator).requires_grad_()
                 for stride in (4, 8, 16, 32, 64))


def boxes(count: int, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    top_left = torch.rand(count, 2, generator=generator) * (SIZE - 24)
    return torch.cat([top_left, top_left + 8 + 16 * torch.rand(count, 2, generator=generator)], 1)


def proposals(*counts: int) -> list[InstanceData]:
    return [InstanceData(bboxes=boxes(count, seed=10 + i), scores=torch.ones(count)) for i, count in enumerate(counts)]


def samples(*counts: int, img_shape: tuple[int, int] = (SIZE, SIZE)) -> list[DetDataSample]:
    """One image for each number of ground-truth objects."""
    out = []
    for i, count in enumerate(counts):
        gt = boxes(count, seed=20 + i)
        masks = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, gt.round().int().tolist()):
            mask[y1:y2, x1:x2] = 1
        sample = DetDataSample(metainfo=dict(img_shape=img_shape, ori_shape=img_shape, scale_factor=(1.0, 1.0),
                                             batch_input_shape=(SIZE, SIZE)))
        sample.gt_instances = InstanceData(bboxes=gt, labels=torch.arange(count) % CLASSES,
                                           masks=BitmapMasks(masks.numpy(), SIZE, SIZE))
        out.append(sample)
    return out
