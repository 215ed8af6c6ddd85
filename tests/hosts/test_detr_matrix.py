"""Every backbone in DINO, Deformable DETR, Mask2Former, RTMDet, ATSS, FCOS and Sparse R-CNN, as :mod:`test_matrix`."""

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import init_default_scope
from mmengine.runner import save_checkpoint

from tests.backbones.registered import BACKBONES
from tests.backbones.small_configs import small_cfg
from tests.detr.co_small import co_dino_cfg
from tests.detr.small import dino_cfg, host
from tests.hosts.test_matrix import SIZE, pyramid, samples
from vitdet_plugin.checkpoints.official import load_official

KINDS = ['dino', 'deformable_detr', 'mask2former', 'rtmdet', 'atss', 'fcos', 'sparse_rcnn', 'co_dino']


def config(kind: str, cls) -> dict:
    """Return a detector on a pyramid of the backbone's maps."""
    neck, strides = pyramid(small_cfg(cls), cls)
    width, levels = 16 if kind in ('rtmdet', 'sparse_rcnn') else 32, len(strides)
    backbone = dict(type=cls.__name__, **small_cfg(cls))
    if kind in ('dino', 'deformable_detr'):
        file = 'dino/dino-4scale_r50_8xb2-12e_coco' if kind == 'dino' else \
            'deformable_detr/deformable-detr_r50_16xb2-50e_coco'  # mmdet's two stages require a width of 256
        model = dino_cfg(backbone, file, levels=levels, layers=1)
    elif kind == 'co_dino':
        model = co_dino_cfg(backbone, levels=levels, layers=1, strides=strides)
    else:
        model = host(kind, backbone, [width] * levels)
    model.neck = dict(neck, out_channels=width)
    if kind == 'mask2former':
        model.panoptic_head.strides = model.panoptic_head.pixel_decoder.strides = strides
        model.test_cfg.max_per_image = 5
    elif kind == 'atss':
        model.bbox_head.anchor_generator.strides = strides
    elif kind == 'rtmdet':
        model.bbox_head.anchor_generator.strides = strides
    elif kind == 'fcos':
        edges = [-1, *(8 * stride for stride in strides[:-1]), 1e8]
        model.bbox_head.update(strides=strides, regress_ranges=list(zip(edges, edges[1:])))
    elif kind == 'sparse_rcnn':
        model.roi_head.bbox_roi_extractor.featmap_strides = strides
    return model


def built(kind: str, cls) -> torch.nn.Module:
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    model = MODELS.build(copy.deepcopy(config(kind, cls)))
    model.init_weights()
    return model


def labeled(kind: str) -> list:
    found = samples(None)
    for sample in found if kind != 'mask2former' else ():
        del sample.gt_instances.masks  # RTMDet would assign by masks
    return found


def predict(model, images) -> list[torch.Tensor]:
    with torch.no_grad():
        found = [sample.pred_instances for sample in model.eval().predict(images, samples(None))]
    return [torch.cat([each.bboxes, each.scores[:, None]], 1) for each in found]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('cls', BACKBONES, ids=lambda cls: cls.__name__)
def test_matrix(cls, kind, tmp_path):
    torch.manual_seed(0)
    model = built(kind, cls).train()
    images = torch.randn(2, 3, *SIZE)
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4))
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    loss, _ = model.parse_losses(model.loss(images, labeled(kind)))
    assert torch.isfinite(loss)
    loss.backward()
    assert not [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    optimizer.step()
    changed = {name.split('.')[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert {'backbone', 'neck'} < changed

    save_checkpoint(dict(state_dict=model.state_dict()), str(tmp_path / 'model.pth'))
    torch.manual_seed(1)
    loaded = built(kind, cls)
    load_official(loaded, tmp_path / 'model.pth', allow_missing=False)
    for left, right in zip(predict(model, images), predict(loaded, images), strict=True):
        torch.testing.assert_close(right, left, rtol=0, atol=0)
