"""Sizes of transforms that are not above 0: one line with the key in place of an error at an image, or of silence."""

import pytest
from mmengine.config import Config

from vitdet_plugin.config.pipeline_sizes import check_pipeline_sizes
from vitdet_plugin.errors import UserError

LOAD = dict(type='LoadImageFromFile')


def config(transform, where='loader'):
    pipeline = [LOAD, transform]
    dataset = dict(type='CocoDataset', pipeline=pipeline)
    return Config(dict(
        loader=dict(train_dataloader=dict(dataset=dataset)),
        wrapped=dict(val_dataloader=dict(dataset=dict(type='RepeatDataset', dataset=dict(
            type='ConcatDataset', datasets=[dict(type='CocoDataset', pipeline=[LOAD]), dataset])))),
        choice=dict(test_pipeline=[LOAD, dict(type='RandomChoice', transforms=[[LOAD], pipeline])]))[where])


@pytest.mark.parametrize(('transform', 'name'), [
    (dict(type='Resize', scale=(0, 0)), 'scale of Resize is (0, 0)'),
    (dict(type='Resize', scale=-640), 'scale of Resize is -640'),
    (dict(type='mmdet.RandomChoiceResize', scales=[(640, 480), (640, 0)]), 'scales of RandomChoiceResize is [('),
    (dict(type='RandomResize', scale=(64, 64), ratio_range=(0, 2.0)), 'ratio_range of RandomResize is (0, 2.0)'),
    (dict(type='RandomCrop', crop_size=(-1, 5)), 'crop_size of RandomCrop is (-1, 5)'),
    (dict(type='Pad', size_divisor=0), 'size_divisor of Pad is 0'), (dict(type='Pad', size=(0, 5)), 'size of Pad'),
    (dict(type='Resize', scale_factor=float('nan')), 'scale_factor of Resize is nan'),
    (dict(type='YOLOMosaic', img_size=0), 'img_size of YOLOMosaic is 0')])
@pytest.mark.parametrize(('where', 'key'), [
    ('loader', 'train_dataloader.dataset.pipeline[1].'),
    ('wrapped', 'val_dataloader.dataset.dataset.datasets[1].pipeline[1].'),
    ('choice', 'test_pipeline[1].transforms[1][1].')])
def test_sizes_that_are_not_above_0(transform, name, where, key):
    with pytest.raises(UserError) as caught:
        check_pipeline_sizes(config(transform, where))
    assert f'{key}{name}' in str(caught.value) and str(caught.value).endswith('; set numbers above 0')


@pytest.mark.parametrize('transform', [
    dict(type='Resize', scale=(640, float('inf'))), dict(type='Resize', scale=(640, 480), keep_ratio=True),
    dict(type='Pad', size=None, size_divisor=32), dict(type='YOLOMosaic', img_size=64, scale=0.0),
    dict(type='RandomCrop', crop_size=(0.5, 0.5), crop_type='relative'), dict(type='Pad', pad_to_square=False)])
def test_usual_sizes_pass(transform):
    for where in ('loader', 'wrapped', 'choice'):
        check_pipeline_sizes(config(transform, where))


def test_an_option_of_the_command_line(tmp_path):
    from vitdet_plugin.config.loading import load_config
    (tmp_path / 'a.py').write_text("test_pipeline = [dict(type='Resize', scale=(64, 64))]\n"
                                   "test_dataloader = dict(dataset=dict(pipeline=test_pipeline))\n")
    load_config(str(tmp_path / 'a.py'))
    with pytest.raises(UserError, match=r'test_pipeline\[0\].scale of Resize is \[0, 0\]|is \(0, 0\)'):
        load_config(str(tmp_path / 'a.py'), ['test_pipeline.0.scale=(0,0)'])
