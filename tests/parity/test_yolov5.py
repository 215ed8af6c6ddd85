"""Cases of YOLOv5: a plain implementation of the loss, and recorded outputs of the reference if available."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.parity.goldens import run_case
from tests.parity.yolov5 import head_config

GOLDENS = Path(__file__).resolve().parents[3] / 'shared/goldens'
HYP = dict(box=0.05, cls=0.5, cls_pw=1.0, obj=1.0, obj_pw=1.0, fl_gamma=0.0, anchor_t=4.0, label_smoothing=0.0)
CONFIG = dict(num_classes=3, input_hw=[64, 64], hyp=HYP, strides=[8, 16, 32],
              anchors_px=[[[10, 13], [16, 30], [33, 23]], [[30, 61], [62, 45], [59, 119]],
                          [[116, 90], [156, 198], [373, 326]]])


def write_case(folder, targets, **hyp):
    """Write a case with expected values from the plain implementation in the tests of the head."""
    from tests.heads.yolov5_oracle import loss_parts
    config = {**CONFIG, 'hyp': {**HYP, **hyp}}
    generator = torch.Generator().manual_seed(0)
    preds = {f'pred{i}': torch.randn(2, 3, 8 // 2 ** i, 8 // 2 ** i, 8, generator=generator) for i in range(3)}
    pixels = targets * torch.tensor([1, 1, 64, 64, 64, 64])
    smoothing = config['hyp']['label_smoothing']
    parts = loss_parts(preds.values(), pixels, config['anchors_px'], config['strides'], 3, smoothing)
    items = torch.tensor([config['hyp'][name] * part for name, part in zip(('box', 'obj', 'cls'), parts)])
    folder.mkdir()
    (folder / 'case.json').write_text(json.dumps(dict(kind='yolov5_loss', config=config)))
    save_file({**preds, 'targets': targets}, folder / 'inputs.safetensors')
    expected = dict(loss=2 * items.sum().reshape(1), items_box_obj_cls=items)
    save_file(expected, folder / 'expected.safetensors')
    return folder


@pytest.mark.parametrize('hyp', [{}, dict(box=0.1, label_smoothing=0.1)])
@pytest.mark.parametrize('count', [0, 1, 5])
def test_loss_and_items(tmp_path, monkeypatch, count, hyp):
    targets = torch.rand(5, 6, generator=torch.Generator().manual_seed(1))[:count] * 0.8 + 0.1
    targets[:, 0], targets[:, 1] = torch.arange(count) % 2, torch.arange(count) % 3
    case = write_case(tmp_path / 'case', targets.contiguous(), **hyp)
    expected = load_file(case / 'expected.safetensors')
    # the case has no expected gradients and decoded boxes; missing keys become None
    from tests.parity.goldens import Verdict
    compared = {}
    monkeypatch.setattr(Verdict, 'compare', lambda self, name, ours, theirs: compared.setdefault(name, (ours, theirs)))
    monkeypatch.setattr('tests.parity.goldens.load_file', lambda path: _Anything(load_file(path)))
    run_case(case)
    for name in ('loss', 'items_box_obj_cls'):
        torch.testing.assert_close(compared[name][0].detach(), expected[name], rtol=2e-4, atol=1e-5)
    assert compared['decoded_xywh_obj_cls'][0].shape == (2, 252, 8)


class _Anything(dict):
    def __missing__(self, key):
        return None


@pytest.mark.parametrize('name', ['yolov5_loss_a', 'yolov5_loss_b', 'yolov5_loss_empty'])
def test_recorded_outputs(name):
    if not (GOLDENS / name).is_dir():
        pytest.skip(f'{GOLDENS / name} does not exist')
    verdict = run_case(GOLDENS / name)
    assert verdict.passed, verdict.worst
    assert {'loss', 'items_box_obj_cls', 'grad.pred0', 'grad.pred2', 'decoded_xywh_obj_cls'} <= set(verdict.errors)


def test_settings_of_the_cross_entropy_are_passed_to_the_head():
    head = head_config({**CONFIG, 'hyp': {**HYP, 'cls_pw': 2.0, 'obj_pw': 0.5, 'fl_gamma': 1.5}})
    assert (head['cls_pos_weight'], head['obj_pos_weight'], head['focal_gamma']) == (2.0, 0.5, 1.5)
