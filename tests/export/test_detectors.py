"""Exported detectors compared with the post-processing of mmdet and with their ONNX files."""

import copy
import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools.mask import decode

from tests.end_to_end.tiny_set import CONFIG, load_tool
from vitdet_plugin.cli import predict
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.export.comparison import difference_of_rows as _difference_of_rows
from vitdet_plugin.export.comparison import paste_masks
from vitdet_plugin.export.detectors import exportable_heads
from vitdet_plugin.export.modules import ExportedDetector

SIZE = (64, 96)
NMS = dict(type='nms', iou_threshold=0.5)
ANCHORS = dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=2, ratios=[0.5, 1.0],
               strides=[4, 8, 16, 32, 64])


def load(seed=0, **changes):
    """Load the tiny Mask R-CNN or another detector with its backbone and neck, with weights that detect objects."""
    init_default_scope('mmdet')
    cfg = Config.fromfile(CONFIG)
    if changes:
        kept = ('data_preprocessor', 'backbone', 'neck')
        cfg.model = {**{name: cfg.model[name] for name in kept}, 'type': 'SingleStageDetector', **changes}
    torch.manual_seed(seed)
    loaded = load_model(cfg, None, 'cpu')
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if 'norm' not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return loaded


def mask_rcnn():
    """Load a Mask R-CNN of two maps and three levels of proposals; each takes seconds to export."""
    cfg = Config.fromfile(CONFIG).model
    cfg.rpn_head.anchor_generator.strides = [16, 32, 64]
    cfg.test_cfg.rpn.nms_pre = 60
    for part in ('bbox', 'mask'):
        cfg.roi_head[f'{part}_roi_extractor'].featmap_strides = [16, 32]
    kept = ('type', 'rpn_head', 'roi_head', 'train_cfg', 'test_cfg')
    return load(neck=dict(cfg.neck, scale_factors=(1.0, 0.5), num_outs=3), **{name: cfg[name] for name in kept})


def noise_image(seed=0):
    return torch.randint(0, 256, (1, 3, SIZE[0] // 8, SIZE[1] // 8), generator=torch.Generator().manual_seed(seed)
                         ).float().repeat_interleave(8, 2).repeat_interleave(8, 3)


def by_mmdet(model, image):
    from mmdet.structures import DetDataSample
    sample = DetDataSample(metainfo=dict(img_shape=SIZE, ori_shape=SIZE, pad_shape=SIZE, batch_input_shape=SIZE,
                                         img_id=0, scale_factor=(1., 1.)))
    batch = model.data_preprocessor(dict(inputs=[image[0].flip(0).byte()], data_samples=[sample]), False)
    return model.predict(batch['inputs'], batch['data_samples'], rescale=False)[0].pred_instances


def assert_same_boxes(model):
    with torch.no_grad():
        boxes, scores, labels, *masks = (each[0] for each in ExportedDetector(model).eval()(noise_image()))
        expected = by_mmdet(model, noise_image())
    count = len(expected)
    assert count > 3 and (scores[count:] == 0).all() and (labels[count:] == -1).all() and not boxes[count:].any()
    torch.testing.assert_close(scores[:count], expected.scores, atol=1e-6, rtol=0)
    torch.testing.assert_close(boxes[:count], expected.bboxes, atol=1e-3, rtol=0)
    assert torch.equal(labels[:count], expected.labels)
    if masks:
        from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
        pasted = _do_paste_mask(masks[0][:count, None], boxes[:count], *SIZE, skip_empty=False)[0] >= 0.5
        assert (pasted != expected.masks).float().mean() < 1e-4


def test_two_stages():
    loaded = load()
    assert_same_boxes(loaded.model)
    with torch.no_grad():
        loaded.model.test_cfg.rcnn.score_thr = float(by_mmdet(loaded.model, noise_image()).scores[5])
    assert_same_boxes(loaded.model)


@pytest.mark.parametrize(('kind', 'is_agnostic'), [('CascadeRoIHead', True), ('ViTDetCascadeRoIHead', True),
                                                   ('BatchedCascadeRoIHead', True), ('BatchedCascadeRoIHead', False)])
def test_cascade(kind, is_agnostic):
    cfg = copy.deepcopy(Config.fromfile(CONFIG).model)
    coders = [dict(type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[std, std, 2 * std, 2 * std])
              for std in (0.1, 0.05, 0.03)]
    cfg.roi_head.update(type=kind, num_stages=3, stage_loss_weights=[1, 0.5, 0.25], bbox_head=[
        {**cfg.roi_head.bbox_head, 'bbox_coder': coder, 'reg_class_agnostic': is_agnostic} for coder in coders])
    rcnn = [{**cfg.train_cfg.rcnn, 'mask_size': 14}] * 3
    model = load(type='CascadeRCNN', rpn_head=cfg.rpn_head, roi_head=cfg.roi_head, test_cfg=cfg.test_cfg,
                 train_cfg={**cfg.train_cfg, 'rcnn': rcnn}).model
    assert_same_boxes(model)


@pytest.mark.parametrize('sigmoid', [True, False])
def test_retinanet(sigmoid):
    loss = dict(type='FocalLoss') if sigmoid else dict(type='CrossEntropyLoss')
    assert_same_boxes(load(
        bbox_head=dict(type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
                       anchor_generator=ANCHORS, loss_cls=loss,
                       bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[0.2] * 4)),
        test_cfg=dict(nms_pre=50, score_thr=0.02, min_bbox_size=0, nms=NMS, max_per_img=40)).model)


@pytest.mark.parametrize('multi_label', [True, False])
def test_yolov5(multi_label):
    assert_same_boxes(load(
        neck=dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=16, scale_factors=(2.0, 1.0, 0.5),
                  num_outs=3),
        bbox_head=dict(type='YOLOv5Head', num_classes=3, in_channels=[16] * 3, init_cfg=None),
        test_cfg=dict(score_thr=0.1, iou_threshold=0.5, multi_label=multi_label, nms_pre=60, max_per_img=40)).model)


def test_the_command_and_the_file(tmp_path, capsys):
    pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
    pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')
    from vitdet_plugin.export.onnx_detector import OnnxDetector
    loaded = load()
    torch.save(dict(state_dict=loaded.model.state_dict()), tmp_path / 'w.pth')
    words = [str(CONFIG), str(tmp_path / 'w.pth'), '--out', str(tmp_path / 'd.onnx'), '--shape', *map(str, SIZE),
             '--cfg-options', 'test_dataloader.dataset.pipeline.1.scale=(96,64)']  # the test pipeline makes this shape
    assert load_tool('export/onnx').main(words) == 0
    assert 'detector, opset 18, input 1 x 3 x 64 x 96 (RGB, 0 to 255)' in capsys.readouterr().out
    detector = OnnxDetector(tmp_path / 'd.onnx')
    assert detector.shape == SIZE
    image = noise_image()[0].permute(1, 2, 0).numpy()[..., ::-1].astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    with torch.no_grad():
        expected = [each[0] for each in ExportedDetector(loaded.model).eval()(noise_image())]
    found = detector(tmp_path / 'a.png', score_thr=0.0)
    count = int((expected[1] > 0).sum())
    assert len(found['boxes']) == count and found['masks'].shape[0] == count
    order, names = np.argsort(-found['scores'], kind='stable'), ('boxes', 'scores', 'labels', 'masks')
    assert _difference_of_rows([found[name][order] for name in names],
                               tuple(each[:count] for each in expected), 96) < 1e-4
    half = detector(cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA), score_thr=0.0)['boxes']
    assert half[:, 0::2].max() <= 48 and half[:, 1::2].max() <= 32
    assert_predicted(tmp_path, found, capsys)


def assert_predicted(folder, found, capsys):
    """``vitdet predict`` with the ONNX file gives the same boxes, and masks in pixels of the image."""
    words = [str(folder / 'd.onnx'), str(folder / 'a.png'), '--out', str(folder / 'out'), '--score-thr', '0']
    assert predict.main([*words, '--format', 'jsonl']) == 0
    record = json.loads((folder / 'out/predictions.jsonl').read_text())
    order = np.argsort(-found['scores'], kind='stable')
    np.testing.assert_allclose(record['boxes'], found['boxes'][order], atol=1e-3)
    masks = paste_masks(found['masks'][order], found['boxes'][order], SIZE)
    areas = decode(record['masks']).transpose(2, 0, 1).sum((1, 2))
    assert ((masks > 127).sum((1, 2)) <= areas).all() and (areas <= (masks >= 127).sum((1, 2))).all()
    capsys.readouterr()
    assert predict.main([*words, '--half']) == 2
    assert 'd.onnx: --half cannot be used with an ONNX file' in capsys.readouterr().err


def test_difference_of_rows():
    expected = (torch.tensor([[0., 0, 9, 9], [5, 5, 9, 9]]), torch.tensor([0.9, 0.8]), torch.tensor([1, 0]))
    found = [each.numpy().copy() for each in expected]
    assert _difference_of_rows(found, expected, 10) == 0
    assert _difference_of_rows([each[::-1] for each in found], expected, 10) == 0
    found[0][1, 2] += 1
    assert _difference_of_rows(found, expected, 10) == pytest.approx(0.1)
    found[2][1] = 2
    assert _difference_of_rows(found, expected, 10) == np.inf


def test_unsupported_detectors_are_an_error():
    loaded = load(bbox_head=dict(type='GFLHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1,
                                 norm_cfg=None, loss_cls=dict(type='QualityFocalLoss'),
                                 anchor_generator={**ANCHORS, 'scales_per_octave': 1, 'ratios': [1.0]}),
                  test_cfg=dict(nms_pre=50, score_thr=0.02, nms=NMS, max_per_img=40))
    with pytest.raises(UserError, match='GFLHead is not supported .* --features'):
        exportable_heads(loaded.model)
