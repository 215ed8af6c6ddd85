"""Initial weights of the recipes' necks and heads at their real sizes, compared with detectron2's published functions.

detectron2 initializes with a normal distribution of variance 2 / fan-out (``c2_msra_fill``), with a uniform one of
variance 1 / fan-in (``c2_xavier_fill``) or keeps PyTorch's, which is uniform with variance 1 / (3 fan-in).
"""

import re

import pytest
import torch
from mmdet.registry import MODELS

from tests.configs.loading import load

WIDTH, DIM, ROI = 256, 768, 7
MSRA = (2 / (9 * WIDTH)) ** 0.5


def default(fan_in):
    return (3 * fan_in) ** -0.5


# part -> pattern of the weight's name -> (standard deviation, whether the distribution is uniform)
NECK = {
    r'levels\.0\.resize\.0': (default(DIM // 2 * 4), True), r'levels\.0\.resize\.3': (default(DIM // 4 * 4), True),
    r'levels\.1\.resize\.0': (default(DIM // 2 * 4), True), r'levels\.0\.lateral\.conv': (default(DIM // 4), True),
    r'levels\.1\.lateral\.conv': (default(DIM // 2), True), r'levels\.[23]\.lateral\.conv': (default(DIM), True),
    r'levels\.\d\.output\.conv': (default(9 * WIDTH), True)}
RPN = {r'rpn_conv\.[01]\.conv': (0.01, False), r'rpn_(cls|reg)': (0.01, False)}
BOX = {r'bbox_head(\.[012])?\.shared_convs\.\d\.conv': (MSRA, False),
       r'bbox_head(\.[012])?\.shared_fcs\.0': ((WIDTH * ROI * ROI) ** -0.5, True),
       r'bbox_head(\.[012])?\.fc_cls': (0.01, False), r'bbox_head(\.[012])?\.fc_reg': (0.001, False)}
MASK = {r'mask_head\.convs\.\d\.conv': (MSRA, False), r'mask_head\.upsample': ((2 / (4 * WIDTH)) ** 0.5, False),
        r'mask_head\.conv_logits': (0.001, False)}


def part_of(name, part):
    """Build the neck, ``rpn_head`` or ``roi_head`` of a config and initialize it as a training does."""
    model = load(name).model
    cfg = dict(model[part])
    if part != 'neck':
        key = part.removesuffix('_head').replace('roi', 'rcnn')
        cfg.update(train_cfg=model.train_cfg[key], test_cfg=model.test_cfg[key])
    torch.manual_seed(0)
    built = MODELS.build(cfg)
    built.init_weights()
    return built


def check(module, expected):
    seen = set()
    for name, p in module.named_parameters():
        if p.ndim < 2:
            continue
        pattern = next(key for key in expected if re.fullmatch(key + r'\.weight', name))
        seen.add(pattern)
        deviation, uniform = expected[pattern]
        assert p.std().item() == pytest.approx(deviation, rel=max(0.02, 4 / p.numel() ** 0.5)), name
        assert p.mean().abs().item() < 5 * deviation / p.numel() ** 0.5, name
        largest = p.abs().max().item() / deviation
        assert largest <= 3 ** 0.5 * 1.001 if uniform else largest > 2, name
    assert seen == expected.keys()


def check_biases(module, drawn=()):
    """Biases are 0 and norms start as the identity, except the layers ``drawn``."""
    for name, p in module.named_parameters():
        if p.ndim == 1 and name not in drawn:
            assert torch.equal(p, torch.full_like(p, name.endswith('.ln.weight') or '.resize.1.w' in name)), name


@pytest.mark.parametrize('name', ['vitdet_100e', 'vitdet/mask-rcnn_vitdet-b_lsj-100e_lvis'])
def test_box_and_mask_heads(name):
    head = part_of(name, 'roi_head')
    check(head, BOX | MASK)
    check_biases(head)


def test_cascade_heads():
    head = part_of('vitdet/cascade-mask-rcnn_vitdet-b_lsj-100e_coco', 'roi_head')
    check(head, BOX | MASK)
    check_biases(head)


def test_pyramid_and_proposal_head():
    neck, rpn = part_of('vitdet_100e', 'neck'), part_of('vitdet_100e', 'rpn_head')
    check(neck, NECK)
    check_biases(neck, drawn=[f'levels.{level}.resize.{i}.bias' for level, i in ((0, 0), (0, 3), (1, 0))])
    check(rpn, RPN)
    check_biases(rpn)


def test_the_small_recipes_start_in_the_same_way():
    head = part_of('vitdet/mask-rcnn_vitdet-tiny_lsj-1500it_coco-mini', 'roi_head')
    assert head.mask_head.conv_logits.weight.std().item() == pytest.approx(0.001, rel=0.1)
    weight = head.bbox_head.shared_fcs[0].weight
    assert weight.std().item() == pytest.approx(weight.shape[1] ** -0.5, rel=0.02)


def test_easycv_starts_as_mmdet():
    name = 'vitdet/mask-rcnn_vitdet-b_easycv-100e_coco'
    head, neck = part_of(name, 'roi_head'), part_of(name, 'neck')
    inputs, outputs = head.bbox_head.shared_fcs[0].in_features, head.bbox_head.shared_fcs[0].out_features
    assert head.bbox_head.shared_fcs[0].weight.std().item() == pytest.approx((2 / (inputs + outputs)) ** 0.5, rel=0.01)
    assert head.mask_head.conv_logits.weight.std().item() == pytest.approx((2 / 80) ** 0.5, rel=0.05)
    assert neck.levels[0].output.conv.weight.std().item() == pytest.approx((2 / (2 * 9 * WIDTH)) ** 0.5, rel=0.01)
