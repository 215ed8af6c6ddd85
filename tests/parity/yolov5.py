"""Cases of YOLOv5's loss and decoding."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS

from tests.parity.goldens import Case, Verdict, register_kind


def head_config(config: dict) -> dict:
    """Convert the hyperparameters of the reference to a config of the head; the gains are used unscaled."""
    hyp = config['hyp']
    return dict(
        type='YOLOv5Head', num_classes=config['num_classes'], in_channels=[1] * len(config['strides']),
        anchors=config['anchors_px'], strides=config['strides'], scale_gains=False,
        gains={part: hyp[part] for part in ('box', 'cls', 'obj')}, balance=config.get('balance'),
        max_ratio=hyp.get('anchor_t', 4.0), label_smoothing=hyp.get('label_smoothing', 0.0),
        cls_pos_weight=hyp.get('cls_pw', 1.0), obj_pos_weight=hyp.get('obj_pw', 1.0),
        focal_gamma=hyp.get('fl_gamma', 0.0))


@register_kind('yolov5_loss')
def run_loss(case: Case) -> Verdict:
    """Compare the loss, its three terms (box, objectness, class), the gradients of the logits and decoded boxes."""
    preds = [case.inputs[f'pred{i}'].clone().requires_grad_() for i in range(len(case.config['strides']))]
    head = MODELS.build(head_config(case.config)).to(preds[0].dtype)
    rows, columns = case.config['input_hw']
    targets = case.inputs['targets'] * torch.tensor([1, 1, columns, rows, columns, rows])
    parts = head.loss_of_targets(preds, targets.to(preds[0].dtype))
    loss = sum(parts.values()) * len(preds[0])
    loss.backward()
    verdict = Verdict()
    verdict.compare('loss', loss.reshape(case.expected['loss'].shape), case.expected['loss'])
    items = torch.stack([parts[name] for name in ('loss_bbox', 'loss_obj', 'loss_cls')])
    verdict.compare('items_box_obj_cls', items, case.expected['items_box_obj_cls'])
    for i, pred in enumerate(preds):
        verdict.compare(f'grad.pred{i}', pred.grad, case.expected[f'grad.pred{i}'])
    with torch.no_grad():
        verdict.compare('decoded_xywh_obj_cls', head.decode(preds), case.expected['decoded_xywh_obj_cls'])
    return verdict
