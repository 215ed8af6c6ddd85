"""Every registered backbone in every kind of model: building, a training step, saving, loading and prediction.

The models are small versions of mmdet's own configs and mmpretrain's classifier. New backbones are included
automatically.
"""

import copy

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint
from mmengine.structures import InstanceData

from tests.backbones.registered import BACKBONES
from tests.backbones.small_configs import small_cfg
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.config.loading import load_config

WIDTH, CLASSES, SIZE = 16, 3, (64, 96)


def pyramid(backbone: dict, cls) -> tuple[dict, list[int]]:
    """Return a neck for the feature maps of the backbone, and the strides of its outputs."""
    model = cls(**backbone)
    channels, strides = list(model.out_channels), list(model.out_strides)
    if len(channels) == 1:
        neck = dict(type='SimpleFeaturePyramid', in_channels=channels[0], out_channels=WIDTH,
                    scale_factors=(2.0, 1.0, 0.5), num_outs=4)
        return neck, [strides[0] // 2, strides[0], 2 * strides[0], 4 * strides[0]]
    return dict(type='FPN', in_channels=channels, out_channels=WIDTH, num_outs=len(channels) + 1), [
        *strides, 2 * strides[-1]]


def two_stage(name: str, cls) -> dict:
    model = load_config(f'mmdet::_base_/models/{name}_r50_fpn.py').model
    model.backbone = dict(type=cls.__name__, **small_cfg(cls))
    model.neck, strides = pyramid(small_cfg(cls), cls)
    model.rpn_head.update(in_channels=WIDTH, feat_channels=WIDTH)
    model.rpn_head.anchor_generator.update(strides=strides)
    model.train_cfg.rpn_proposal.update(nms_pre=50, max_per_img=20)
    model.test_cfg.rpn.update(nms_pre=50, max_per_img=20)
    model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    heads = model.roi_head
    for extractor in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
        extractor.update(out_channels=WIDTH, featmap_strides=strides[:-1])
    for head in heads.bbox_head if isinstance(heads.bbox_head, list) else [heads.bbox_head]:
        head.update(in_channels=WIDTH, fc_out_channels=32, num_classes=CLASSES)
    heads.mask_head.update(num_convs=1, in_channels=WIDTH, conv_out_channels=WIDTH, num_classes=CLASSES)
    stages = model.train_cfg.rcnn if isinstance(model.train_cfg.rcnn, list) else [model.train_cfg.rcnn]
    for stage in stages:
        stage.sampler.num = 8
    return model


def mask_rcnn(cls) -> dict:
    return two_stage('mask-rcnn', cls)


def cascade(cls) -> dict:
    return two_stage('cascade-mask-rcnn', cls)


def retinanet(cls) -> dict:
    model = load_config('mmdet::_base_/models/retinanet_r50_fpn.py').model
    model.backbone = dict(type=cls.__name__, **small_cfg(cls))
    model.neck, strides = pyramid(small_cfg(cls), cls)
    model.bbox_head.update(in_channels=WIDTH, feat_channels=WIDTH, stacked_convs=1, num_classes=CLASSES)
    model.bbox_head.anchor_generator.strides = strides
    model.test_cfg.update(score_thr=0.0, nms_pre=50, max_per_img=5)
    return model


def classifier(cls) -> dict:
    channels = cls(**small_cfg(cls)).out_channels[-1]
    return dict(type='ImageClassifier', backbone=dict(type=cls.__name__, **small_cfg(cls)),
                head=dict(type='LayerNormClsHead', num_classes=CLASSES, in_channels=channels))


def built(host, cls) -> torch.nn.Module:
    scope = 'mmpretrain' if host is classifier else 'mmdet'
    init_default_scope(scope)
    if scope == 'mmdet':
        from mmdet.registry import MODELS
    else:
        from mmpretrain.registry import MODELS
    model = MODELS.build(copy.deepcopy(host(cls)))
    model.init_weights()
    return model


def samples(host) -> list:
    if host is classifier:
        from mmpretrain.structures import DataSample
        return [DataSample().set_gt_label(label) for label in (2, 0)]
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    found = []
    for label in (2, 0):
        height, width = SIZE
        mask = np.zeros((1, height, width), np.uint8)
        mask[0, 8:40, 16:56] = 1
        sample = DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE, batch_input_shape=SIZE,
                                             scale_factor=(1.0, 1.0), img_id=label))
        sample.gt_instances = InstanceData(bboxes=torch.tensor([[16.0, 8, 56, 40]]), labels=torch.tensor([label]),
                                           masks=BitmapMasks(mask, *SIZE))
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
        found.append(sample)
    return found


def predict(model, host, images) -> list[torch.Tensor]:
    with torch.no_grad():
        found = model.eval().predict(images, samples(host))
    if host is classifier:
        return [sample.pred_score for sample in found]
    return [torch.cat([sample.pred_instances.bboxes, sample.pred_instances.scores[:, None]], 1) for sample in found]


@pytest.mark.parametrize('host', [mask_rcnn, cascade, retinanet, classifier], ids=lambda host: host.__name__)
@pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
def test_matrix(cls, host, tmp_path):
    torch.manual_seed(0)
    model = built(host, cls).train()
    images = torch.randn(2, 3, *SIZE)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    before = {name: value.detach().clone() for name, value in model.backbone.named_parameters()}
    loss, _ = model.parse_losses(model.loss(images, samples(host)))
    assert torch.isfinite(loss)
    loss.backward()
    unused = [name for name, value in model.backbone.named_parameters() if value.grad is None]
    assert host is classifier or not unused  # DDP without find_unused_parameters
    optimizer.step()
    changed = [name for name, value in model.backbone.named_parameters() if not torch.equal(value, before[name])]
    assert next(iter(before)) in changed and len(changed) > len(before) // 2

    save_checkpoint(dict(state_dict=model.state_dict()), str(tmp_path / 'model.pth'))
    torch.manual_seed(1)
    loaded = built(host, cls)
    load_official(loaded, tmp_path / 'model.pth', allow_missing=False)
    expected, found = predict(model, host, images), predict(loaded, host, images)
    assert all(len(each) for each in expected)
    for left, right in zip(expected, found, strict=True):
        torch.testing.assert_close(right, left, rtol=0, atol=0)


def test_all_backbones_are_found():
    assert 'ViTDet' in [cls.__name__ for cls in BACKBONES] and len(BACKBONES) == len(set(BACKBONES))
