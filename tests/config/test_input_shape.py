"""The size of a model's images, as the test pipeline determines it."""

import pytest
from mmengine.config import Config

from vitdet_plugin.config.input_shape import input_shape
from vitdet_plugin.errors import UserError
from vitdet_plugin.runtime.pipeline import output_size

LOAD = dict(type='LoadImageFromFile')


def config(*steps, **model):
    dataset = dict(type='CocoDataset', pipeline=[LOAD, *steps])
    return Config(dict(model=model, test_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dataset))))


@pytest.mark.parametrize(('steps', 'expected'), [
    ([dict(type='Resize', scale=(200, 100))], (100, 200)),
    ([dict(type='mmdet.Resize', scale=(1333, 800), keep_ratio=True), dict(type='Pad', size_divisor=32)], (800, 1344)),
    ([dict(type='ResizeEdge', scale=256), dict(type='CenterCrop', crop_size=224)], (224, 224)),
    ([dict(type='ResizeEdge', scale=256, edge='long')], (256, 256)),
    ([dict(type='EfficientNetCenterCrop', crop_size=128)], (128, 128)),
    ([dict(type='ResizeShortestEdge', scale=800, max_size=1333)], (800, 1333)),
    ([dict(type='FixShapeResize', width=96, height=64, keep_ratio=True)], (64, 96)),
    ([dict(type='LetterBox', img_size=320)], (320, 320)), ([dict(type='Pad', size=(80, 48))], (48, 80)),
    ([dict(type='Resize', scale=(50, 30)), dict(type='Pad', pad_to_square=True)], (50, 50)),
    ([dict(type='Resize', scale=(50, 30)), dict(type='Resize', scale_factor=2.0)], (60, 100)),
    ([dict(type='Resize', scale=(60, 30)), dict(type='Unknown'), dict(type='ResizeEdge', scale=10)], (10, 20))])
def test_the_size_after_the_pipeline(steps, expected):
    assert input_shape(config(*steps)) == output_size([LOAD, *steps]) == expected


@pytest.mark.parametrize('steps', [
    [], [dict(type='ResizeEdge', scale=128)], [dict(type='Resize', scale_factor=2.0)],
    [dict(type='ResizeShortestEdge', scale=128)], [dict(type='Pad', size_divisor=32)]])
def test_a_size_that_depends_on_the_images(steps):
    with pytest.raises(UserError, match='Pass --shape'):
        input_shape(config(*steps))
    assert output_size(steps) is None
    assert output_size(steps, (64, 64)) is not None


def test_the_padding_of_the_preprocessor_and_the_size_of_the_backbone():
    assert input_shape(config(dict(type='Resize', scale=(200, 100)), data_preprocessor=dict(pad_size_divisor=32))) == (
        128, 224)
    sized = config(backbone=dict(type='ViTDet', img_size=96))
    assert input_shape(sized, or_backbone_size=True) == (96, 96)
    with pytest.raises(UserError, match='Pass --shape'):
        input_shape(sized)
