"""mmdet's Mask R-CNN trains and predicts on the stand-in operators, in float32 and in mixed precision."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, OPTIM_WRAPPERS

import vitdet_plugin.compat.amp  # noqa: F401
from tests.compat.tiny_detector import batch, tiny_mask_rcnn


def build(**kwargs):
    torch.manual_seed(0)
    return MODELS.build(tiny_mask_rcnn(**kwargs))


def optim_wrapper(model, kind, **kwargs):
    cfg = dict(type=kind, clip_grad=dict(max_norm=10.), **kwargs)
    return OPTIM_WRAPPERS.build(dict(cfg, optimizer=torch.optim.SGD(model.parameters(), lr=0.02)))


@pytest.mark.parametrize('kind', [dict(kind='OptimWrapper'), dict(kind='AutocastOptimWrapper', dtype='bf16'),
                                  dict(kind='AutocastOptimWrapper', dtype='fp16', loss_scale=256.)])
def test_training_lowers_the_loss(kind):
    model = build().train()
    wrapper = optim_wrapper(model, **kind)
    before = {name: p.clone() for name, p in model.named_parameters()}
    losses = [model.train_step(batch(), wrapper)['loss'].item() for _ in range(8)]
    assert losses[-1] < losses[0]
    assert all(torch.isfinite(p).all() for p in model.parameters())
    unchanged = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not unchanged


def test_bf16_starts_at_the_float32_loss():
    losses = []
    for kind in (dict(kind='OptimWrapper'), dict(kind='AutocastOptimWrapper', dtype='bf16')):
        model = build().train()
        torch.manual_seed(1)
        losses.append(model.train_step(batch(), optim_wrapper(model, **kind))['loss'].item())
    assert losses[1] == pytest.approx(losses[0], rel=0.1)  # sampling of proposals differs a little
    assert losses[1] != losses[0]  # else autocast did nothing


@pytest.mark.parametrize('nms_type', ['nms', 'soft_nms'])
@pytest.mark.parametrize('amp', [False, True])
def test_predict(nms_type, amp):
    model = build(nms_type=nms_type).eval()
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=amp):
        samples = model.test_step(batch())
    for sample in samples:
        found = sample.pred_instances
        assert 0 < len(found) <= 20
        assert found.bboxes.dtype == torch.float32
        assert found.masks.shape == (len(found), 64, 64)
        assert ((found.bboxes >= 0) & (found.bboxes <= 64)).all()


def test_test_time_augmentation_merges_by_nms():
    cfg = tiny_mask_rcnn()
    cfg.type = 'FasterRCNN'  # mmdet merges boxes only
    cfg.roi_head.pop('mask_head')
    cfg.roi_head.pop('mask_roi_extractor')
    tta = MODELS.build(dict(type='DetTTAModel', module=MODELS.build(cfg).eval(),
                            tta_cfg=ConfigDict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)))
    views = [batch(), batch()]
    for view in views:
        for sample in view['data_samples']:
            sample.set_metainfo(dict(flip=False, flip_direction=None))
    merged = tta.test_step({key: [view[key] for view in views] for key in views[0]})
    assert len(merged) == 2
    assert all(0 < len(sample.pred_instances) <= 10 for sample in merged)
