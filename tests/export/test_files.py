"""The written files: operator set, channels, large weights, and what remains after a refusal."""

import functools
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_set import CONFIG, load_tool
from tests.export.test_detectors import ANCHORS, NMS, SIZE, by_mmdet
from vitdet_plugin.engine.load_model import load_model
from vitdet_plugin.errors import UserError
from vitdet_plugin.export import onnx, onnx_file
from vitdet_plugin.export.modules import ExportedDetector, input_channels
from vitdet_plugin.export.onnx_file import move_model, read_opset, write_program
from vitdet_plugin.export.references import Reference

runtime = pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
pytest.importorskip('onnxscript', reason='the extra "onnx" is not installed')


@functools.cache
def program(opset):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.GELU()).eval()
    return torch.onnx.export(model, (torch.ones(1, 1, 8, 8),), dynamo=True, opset_version=opset,
                             input_names=['image'], verbose=False)


@pytest.mark.parametrize('opset', [17, 18])
def test_the_opset_is_that_of_the_file(tmp_path, opset):
    write_program(program(opset), tmp_path / 'a.onnx', opset, dict(shape='[8, 8]'))
    assert read_opset(tmp_path / 'a.onnx') == opset
    session = runtime.InferenceSession(str(tmp_path / 'a.onnx'), providers=['CPUExecutionProvider'])
    assert session.get_modelmeta().custom_metadata_map['shape'] == '[8, 8]'


def test_an_opset_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(UserError, match='--opset 13: torch writes this model with opset 18, and it cannot'):
        write_program(program(18), tmp_path / 'a.onnx', 13, {})


def test_large_weights_are_in_a_second_file(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, 'EXTERNAL_ABOVE', 0)
    (tmp_path / 'new').mkdir()
    write_program(program(18), tmp_path / 'new' / 'my model.onnx', 18, {})
    move_model(tmp_path / 'new' / 'my model.onnx', tmp_path / 'my model.onnx')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['my model.onnx', 'my model.onnx.data', 'new']
    shutil.move(tmp_path / 'my model.onnx', tmp_path / 'new'), shutil.move(tmp_path / 'my model.onnx.data',
                                                                           tmp_path / 'new')
    session = runtime.InferenceSession(str(tmp_path / 'new/my model.onnx'), providers=['CPUExecutionProvider'])
    assert session.run(None, dict(image=np.ones((1, 1, 8, 8), np.float32)))[0].shape == (1, 8, 6, 6)
    (tmp_path / 'new/my model.onnx.data').unlink()
    from vitdet_plugin.export.onnx_detector import OnnxDetector
    with pytest.raises(UserError, match='keep my model.onnx.data in the same folder'):
        OnnxDetector(tmp_path / 'new/my model.onnx')


def test_a_refused_file_does_not_stay_and_an_earlier_one_is_kept(tmp_path, monkeypatch):
    init_default_scope('mmdet')
    loaded = load_model(Config.fromfile(CONFIG), None, 'cpu')
    out = tmp_path / 'a folder' / 'f.onnx'
    monkeypatch.setattr(torch.onnx, 'export', lambda *args, **kwargs: program(18))
    monkeypatch.setattr(onnx, '_run_and_compare', lambda *args: 0.5)
    for before in ([], ['f.onnx']):
        with pytest.raises(UserError, match=r'f.onnx: not written, because .* differ by 5.0e-01'):
            onnx.export_onnx(loaded, out, SIZE, features=True)
        with pytest.raises(UserError, match='--opset 13'):
            onnx.export_onnx(loaded, out, SIZE, opset=13, features=True)
        assert [path.name for path in out.parent.iterdir()] == before
        out.write_text('an earlier file')
    assert out.read_text() == 'an earlier file'


def with_channels(channels, **changes):
    cfg = Config.fromfile(CONFIG)
    cfg.model.backbone.in_channels = channels
    values = dict(mean=[110.], std=[60.]) if channels == 1 else dict(mean=None, std=None)
    cfg.model.data_preprocessor.update(values)
    return cfg


def test_one_channel(tmp_path, capsys):
    """From the command to the boxes of an image file."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    cfg = with_channels(1)
    for part in ('rpn_head', 'roi_head', 'train_cfg'):
        cfg.model.pop(part)
    cfg.model.update(small_retinanet())
    cfg.test_dataloader.dataset.pipeline[1].scale = SIZE[::-1]
    cfg.dump(tmp_path / 'c.py')
    model = load_model(Config.fromfile(tmp_path / 'c.py'), None, 'cpu').model
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'norm' not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'w.pth')
    out = tmp_path / 'new folder' / 'd.onnx'
    assert load_tool('export/onnx').main([str(tmp_path / 'c.py'), str(tmp_path / 'w.pth'), '--out', str(out), '--shape',
                                          *map(str, SIZE)]) == 0
    assert 'input 1 x 1 x 64 x 96 (gray, 0 to 255)' in capsys.readouterr().out
    from vitdet_plugin.export.onnx_detector import OnnxDetector
    image = np.random.default_rng(0).integers(0, 256, SIZE, np.uint8)
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    found = OnnxDetector(out)(tmp_path / 'a.png', score_thr=0.0)
    with torch.no_grad():
        expected = by_mmdet(model, torch.from_numpy(image)[None, None].float())
    assert len(found['boxes']) == len(expected) > 3
    np.testing.assert_allclose(found['scores'], expected.scores.numpy(), atol=1e-5)
    colored = OnnxDetector(out)(np.repeat(image[..., None], 3, 2), score_thr=0.0)  # converted, as a file would be
    np.testing.assert_array_equal(colored['scores'], found['scores'])
    with pytest.raises(UserError, match='has 2 channels, the model requires 1'):
        OnnxDetector(out)(np.zeros((8, 8, 2), np.uint8))


def small_retinanet():
    anchors = dict(ANCHORS, strides=[16, 32])
    neck = dict(type='SimpleFeaturePyramid', in_channels=32, out_channels=16, scale_factors=(1.0, 0.5), num_outs=2)
    return dict(type='SingleStageDetector', neck=neck, bbox_head=dict(
        type='RetinaHead', num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1, anchor_generator=anchors,
        bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.] * 4, target_stds=[0.2] * 4)),
        test_cfg=dict(nms_pre=50, score_thr=0.02, min_bbox_size=0, nms=NMS, max_per_img=40))


@pytest.mark.parametrize('channels', [1, 4])
def test_other_channels_and_padding_as_in_mmdet(channels):
    """Also a size that is not a multiple of the preprocessor's divisor."""
    init_default_scope('mmdet')
    torch.manual_seed(0)
    model = load_model(with_channels(channels), None, 'cpu').model
    exported = ExportedDetector(model).eval()
    assert input_channels(model) == exported.preprocess.channels == channels
    image = torch.randint(0, 256, (1, channels, 50, 90)).float()
    with torch.no_grad():
        reference = Reference(exported, image)
    assert reference.count and reference.difference([each.numpy() for each in reference.outputs]) < 1e-5
