"""DINO with weights in mmdet 2's names: mmdet's detector then equals an independent form of the papers."""

import pytest
import torch

from tests.detr.mmdet2_names import mmdet2
from tests.detr.oracle import Dino, detections
from tests.detr.small import INTERNIMAGE, build, dino, dino_cfg, predict
from vitdet_plugin.checkpoints.official import load_official


@pytest.mark.parametrize(('shapes', 'head', 'eps'), [
    ([(64, 96), (64, 96)], 'DINOHead', 1e-5), ([(64, 70), (41, 96)], 'OriginalDINOHead', 1e-3)],
    ids=['one size', 'padded'])
def test_same_boxes_and_scores(tmp_path, shapes, head, eps):
    weights = mmdet2(dino(seed=0).state_dict())
    torch.save({'state_dict': weights, 'meta': {}}, tmp_path / 'dino.pth')
    cfg = dino_cfg(INTERNIMAGE)
    cfg.bbox_head.type = head
    model = build(cfg, seed=1)
    report = load_official(model, tmp_path / 'dino.pth', allow_missing=False)
    assert report.recognized_as == "OpenGVLab's DINO" and not (report.dropped or report.missing or report.unexpected)

    torch.manual_seed(2)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        scores, boxes = Dino(weights, head_eps=eps)(model.backbone(images), shapes, (64, 96), groups=8)
    assert boxes.std(1).min() > 0.01 and scores.std() > 0.01  # a test of constants would prove nothing
    for i, found in enumerate(predict(model, images, shapes)):
        expected = detections(scores[i], boxes[i], shapes[i], 10)
        for name, value in zip(('bboxes', 'scores', 'labels'), expected):
            torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)


def test_the_heads_differ_for_tiny_references_only():
    model = build(dino_cfg(INTERNIMAGE))
    original = build({**dino_cfg(INTERNIMAGE), 'bbox_head': {**dino_cfg(INTERNIMAGE).bbox_head,
                                                             'type': 'OriginalDINOHead'}})
    original.load_state_dict(model.state_dict())
    states = torch.randn(2, 1, 3, 32)
    for value, same in ((0.002, True), (0.0002, False)):
        references = [torch.full((1, 3, 4), value)] * 3
        with torch.no_grad():
            ours, mmdets = (each.bbox_head(states, references)[1] for each in (original, model))
        assert torch.allclose(ours, mmdets) == same
