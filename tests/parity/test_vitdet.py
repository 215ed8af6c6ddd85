"""Cases of ViTDet: reference outputs of detectron2 for generated weights and inputs, and comparing detections."""

import pytest
import torch
from mmengine.structures import InstanceData
from safetensors.torch import save_file

from tests.parity.cases import Pyramid, official_state
from tests.parity.goldens import Verdict
from tests.parity.vitdet import compare_detections
from vitdet_plugin.checkpoints.official import load_official

# Results of detectron2 for the case vitdet_d2_nonsquare: five evenly spaced values and the standard deviation of each
# level, and the L2 norms of some gradients. Weights and inputs are generated below.
CONFIG = dict(img_size=160, embed_dim=48, depth=2, num_heads=4, window_size=4, window_block_indexes=[0],
              pretrain_img_size=64, out_channels=32, patch_size=16, mlp_ratio=4)
LEVELS = [
    ([-1.465091, 1.542213, 0.813350, 1.658462, 0.010545], 0.991324),
    ([0.981927, -0.321256, -0.323582, -0.873123, 0.640369], 1.040999),
    ([-0.605971, 0.153328, -0.910834, -0.509868, -0.632727], 0.981677),
    ([2.584108, 1.035583, -0.971956, -1.075683, 1.956530], 1.100598),
    ([2.584108, 2.075646, -0.971956, -0.918937, 2.247200], 1.087778),
]
GRADIENT_NORMS = {
    'net.blocks.0.attn.proj.bias': 145.675186, 'net.blocks.0.mlp.fc2.bias': 140.443939,
    'net.blocks.1.attn.qkv.bias': 57.845676, 'net.blocks.1.norm1.bias': 28.509863,
    'simfp_2.0.weight': 500.578888, 'simfp_2.5.norm.bias': 135.573608, 'simfp_4.1.weight': 1457.752563}
INPUT_GRADIENT = ([-0.129277, 0.036622, -0.077024, 0.019140, -0.540733, -0.197256], 57.0715)  # every 9000th; L2 norm


def normal(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def draw_weights(names_and_shapes, seed, scale=0.5):
    """Generate weights in the order of the official names; matrices are scaled by fan-in, norm weights are near 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in sorted(names_and_shapes.items()):
        values = torch.randn(shape, generator=generator)
        if len(shape) > 1:
            weights[name] = values * scale / max(shape[1:].numel(), 1) ** 0.5
        else:
            weights[name] = values * 0.2 + (1 if 'norm' in name and name.endswith('weight') else 0)
    return weights


def test_reference_outputs_for_generated_weights(tmp_path):
    model = Pyramid(CONFIG).eval()
    official = official_state(model.state_dict())
    save_file(draw_weights({name: value.shape for name, value in official.items()}, 12), tmp_path / 'd2.safetensors')
    load_official(model, tmp_path / 'd2.safetensors', allow_missing=False)
    image = normal((1, 3, 96, 160), 13).requires_grad_()
    outs = model(image)
    for out, (values, spread) in zip(outs, LEVELS, strict=True):
        torch.testing.assert_close(out.detach().flatten()[::out.numel() // 5][:5], torch.tensor(values),
                                   atol=1e-4, rtol=1e-4)
        assert out.std().item() == pytest.approx(spread, rel=1e-4)
    torch.autograd.backward(outs, [normal(out.shape, 14 + i) for i, out in enumerate(outs)])
    gradients = official_state({name: p.grad for name, p in model.named_parameters()})
    for name, norm in GRADIENT_NORMS.items():
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-3), name
    torch.testing.assert_close(image.grad.flatten()[::9000], torch.tensor(INPUT_GRADIENT[0]), atol=1e-3, rtol=1e-3)
    assert image.grad.norm().item() == pytest.approx(INPUT_GRADIENT[1], rel=1e-3)


def detections(shift=0.0, scores=(0.9, 0.5, 0.5), order=(0, 1, 2), labels=(1, 0, 0)):
    boxes = torch.tensor([[2.0, 2, 20, 20], [10, 10, 30, 30], [1, 1, 9, 9]])
    masks = torch.zeros(3, 32, 32, dtype=torch.bool)
    for mask, box in zip(masks, boxes.int().tolist()):
        mask[box[1]:box[3], box[0]:box[2]] = True
    order = list(order)
    return InstanceData(bboxes=boxes[order] + shift, scores=torch.tensor(scores)[order],
                        labels=torch.tensor(labels)[order], masks=masks[order])


def compare(found, reference=None):
    reference = detections() if reference is None else reference
    expected = dict(boxes_xyxy=reference.bboxes, scores=reference.scores, labels=reference.labels,
                    masks=reference.masks.to(torch.uint8))
    verdict = Verdict()
    compare_detections(verdict, 'det0', found, found.masks, expected)
    return verdict


def test_equal_detections_pass_in_any_order_of_equal_scores():
    assert compare(detections()).passed
    assert compare(detections(order=(0, 2, 1))).passed


def with_mask_hole():
    found = detections()
    found.masks[0, 5:9, 5:15] = False
    return found


def with_nan_box():
    found = detections()
    found.bboxes[0, 0] = float('nan')
    return found


@pytest.mark.parametrize('found', [
    detections(shift=0.02), detections(scores=(0.9002, 0.5, 0.5)), detections(labels=(2, 0, 0)),
    detections()[:2], with_mask_hole(), with_nan_box()],
    ids=['boxes', 'score', 'label', 'count', 'mask', 'nan'])
def test_different_detections_fail(found):
    assert not compare(found).passed


def test_boxes_and_scores_within_the_tolerances_pass():
    assert compare(detections(shift=0.005, scores=(0.90005, 0.5, 0.5))).passed


def test_one_wrong_mask_among_many_fails():
    """The effect on the mean IoU is within the tolerance, but the minimum IoU fails."""
    def many():
        boxes = torch.arange(20.0)[:, None] + torch.tensor([0.0, 0, 12, 12])
        masks = torch.zeros(20, 32, 32, dtype=torch.bool)
        masks[:, 4:14, 4:24] = True
        return InstanceData(bboxes=boxes, scores=torch.linspace(0.9, 0.5, 20), labels=torch.zeros(20), masks=masks)

    found = many()
    found.masks[7, 4, 4:7] = False  # 3 of 200 pixels
    verdict = compare(found, many())
    assert verdict.errors['det0.mask_iou_mean'] <= verdict.tolerances['det0.mask_iou_mean']
    assert not verdict.passed
