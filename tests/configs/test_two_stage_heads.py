"""Every two-stage config trains with heads that do not wait for a GPU for each image, with the weights of mmdet's."""

import pytest

from tests.configs.loading import CONFIGS, NAMES, built, load
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.engine.check_weights import build_without_memory
from vitdet_plugin.heads.batched_cascade_head import BatchedCascadeRoIHead
from vitdet_plugin.heads.batched_mask_head import BatchedMaskHead
from vitdet_plugin.heads.batched_roi_head import BatchedRoIHead
from vitdet_plugin.heads.batched_rpn_head import BatchedRPNHead
from vitdet_plugin.heads.box_losses import is_served
from vitdet_plugin.heads.deferred_sampler import DeferredRandomSampler

MMDET = dict(BatchedRPNHead='RPNHead', BatchedRoIHead='StandardRoIHead', BatchedCascadeRoIHead='CascadeRoIHead',
             BatchedMaskHead='FCNMaskHead', DeferredRandomSampler='RandomSampler')
TWO_STAGE = [name for name in NAMES if {'rpn_head', 'aux_rpn_head'} & load(name).model.keys()]


def as_list(value):
    return list(value) if hasattr(value, '__iter__') else [value]


def with_heads_of_mmdet(value):
    if isinstance(value, dict):
        for each in value.values():
            with_heads_of_mmdet(each)
        value.update(type=MMDET[value.type]) if value.get('type') in MMDET else None
    elif isinstance(value, (list, tuple)):
        for each in value:
            with_heads_of_mmdet(each)


@pytest.mark.parametrize('name', TWO_STAGE)
def test_heads_and_their_settings_are_served(name):
    model = built(name)
    rpn = getattr(model, 'aux_rpn_head', None) or model.rpn_head
    assert isinstance(rpn, BatchedRPNHead) and rpn.has_batched_losses([])
    for head in getattr(model, 'aux_roi_heads', None) or [model.roi_head]:
        assert isinstance(head, (BatchedRoIHead, BatchedCascadeRoIHead))
        assert all(isinstance(each, DeferredRandomSampler) for each in as_list(head.bbox_sampler))
        assert all(is_served(each) for each in as_list(head.bbox_head))
        if head.with_mask:
            assert all(isinstance(each, BatchedMaskHead) for each in as_list(head.mask_head))


@pytest.mark.parametrize('name', TWO_STAGE)
def test_weights_have_the_names_and_shapes_of_mmdet(name):
    cfg = load_config(str(CONFIGS / name)).model
    with_heads_of_mmdet(cfg)
    assert cfg != load(name).model
    expected = {key: value.shape for key, value in build_without_memory(cfg).state_dict().items()}
    assert {key: value.shape for key, value in built(name).state_dict().items()} == expected


def test_there_are_recipes_of_all_heads():
    assert len(TWO_STAGE) > 50
    assert {type(getattr(built(name), 'roi_head', None)).__name__ for name in TWO_STAGE} == {
        'BatchedRoIHead', 'BatchedCascadeRoIHead', 'ViTDetCascadeRoIHead', 'NoneType'}
