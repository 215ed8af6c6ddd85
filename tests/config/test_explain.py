import json

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS

from vitdet_plugin.config.explain import explain, user_errors
from vitdet_plugin.config.registry import import_scope
from vitdet_plugin.errors import UserError


def test_unregistered_types_name_similar_ones_and_the_import(tiny_config):
    with pytest.raises(UserError) as caught, user_errors(tiny_config):
        MODELS.build(dict(type='SimpleFeaturePyramide'))
    assert 'did you mean SimpleFeaturePyramid' in str(caught.value) and 'custom_imports' not in str(caught.value)
    tiny_config.custom_imports = None
    with pytest.raises(UserError, match=r"custom_imports=dict\(imports=\['vitdet_plugin'\]"), user_errors(tiny_config):
        MODELS.build(dict(type='SimpleFeaturePyramide'))


def test_a_type_of_another_registry(tiny_config):
    with pytest.raises(UserError, match='registered as a model, not as a hook'), user_errors(tiny_config):
        HOOKS.build(dict(type='SimpleFeaturePyramid'))


@pytest.mark.parametrize('prefix', ['mmdet', 'vitdet_plugin'])
def test_a_prefix_of_another_package(tiny_config, prefix):
    from mmdet.registry import MODELS
    with pytest.raises(UserError) as caught, user_errors(tiny_config):
        MODELS.build(dict(type=f'{prefix}.InternImage'))
    assert str(caught.value).endswith(f"type '{prefix}.InternImage' is not registered in {prefix}, but in mmengine. "
                                      "Write type='InternImage'")


def test_a_type_of_another_package_without_its_prefix(tiny_config):
    from mmdet.registry import MODELS
    import_scope('mmpretrain')
    with pytest.raises(UserError, match="'LinearClsHead' is not registered in mmdet, but in mmpretrain. Write "
                                        "type='mmpretrain.LinearClsHead'"), user_errors(tiny_config):
        MODELS.build(dict(type='LinearClsHead'))


def test_the_layer_wise_rates_of_mmpretrain_in_a_detector(tiny_config):
    import_scope('mmpretrain')
    with pytest.raises(UserError, match="Use constructor='LayerWiseDecayConstructor'"), user_errors(tiny_config):
        build_optim_wrapper(torch.nn.Linear(1, 1), dict(
            constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1.0), paramwise_cfg=dict(layer_decay_rate=0.7)))


@pytest.mark.parametrize('allocate', [lambda: torch.empty(1 << 60, dtype=torch.uint8),
                                      lambda: np.empty(1 << 60, np.uint8)])
def test_used_up_memory(tiny_config, allocate):
    with pytest.raises(UserError, match='is used up. Set a smaller train_dataloader.batch_size'), \
            user_errors(tiny_config):
        allocate()


def test_names_of_the_reference_code(tiny_config):
    for name in ('LayerDecayOptimizerConstructor', 'CustomLayerDecayOptimizerConstructor'):
        with pytest.raises(UserError, match='did you mean LayerWiseDecayConstructor, with'), user_errors(tiny_config):
            build_optim_wrapper(torch.nn.Linear(1, 1), dict(constructor=name, optimizer=dict(type='AdamW', lr=1.0)))
    with pytest.raises(UserError, match=r"InternImage does not take 'channels'; sizes are one argument, arch=dict\("), \
            user_errors(tiny_config):
        MODELS.build(dict(type='InternImage', channels=64))


def test_unknown_and_missing_arguments(tiny_config):
    with pytest.raises(UserError, match=r"SimpleFeaturePyramid does not take 'out_channel' \(did you mean out_ch"), \
            user_errors(tiny_config):
        MODELS.build(dict(type='SimpleFeaturePyramid', in_channels=8, out_channel=8))
    with pytest.raises(UserError, match="SimpleFeaturePyramid needs 'in_channels'"), user_errors(tiny_config):
        MODELS.build(dict(type='SimpleFeaturePyramid'))


@pytest.mark.parametrize('section, says', [({}, 'a model is empty'), (dict(depth=2), 'has no type, only depth')])
def test_sections_without_a_type(tiny_config, section, says):
    with pytest.raises(UserError, match=f'tiny_vitdet.py: the section of .*{says}; add its type'), \
            user_errors(tiny_config):
        MODELS.build(section)


@pytest.mark.parametrize('hook, says', [
    (dict(type='CheckpointHook', save_best='foo'), 'CheckpointHook: Cannot infer the rule for key foo'),
    (dict(type='CheckpointHook', save_best=5), 'CheckpointHook: "save_best" should be a str')])
def test_arguments_that_a_constructor_refuses(tiny_config, hook, says):
    with pytest.raises(UserError, match=says), user_errors(tiny_config):
        HOOKS.build(hook)


@pytest.mark.parametrize('error, says', [
    (FileNotFoundError(2, 'No such file', '/data/coco/x.json'), '/data/coco/x.json does not exist'),
    (ValueError('need at least one array to concatenate'), 'metainfo.classes'),
    (OSError(28, 'No space left on device'), 'no space left'),
    (RuntimeError('CUDA out of memory. Tried to allocate'), '--amp'),
    (KeyError('scale_factor'), 'has no Resize, whose scale_factor brings boxes back'),
])
def test_well_known_failures(tiny_config, error, says):
    assert says in explain(error, tiny_config)


def test_json_errors_keep_line_and_column(tiny_config):
    with pytest.raises(UserError, match='line 2, column 1'), user_errors(tiny_config):
        json.loads('{"a": 1,\n')


def test_program_errors_are_not_changed(tiny_config):
    with pytest.raises(ZeroDivisionError), user_errors(tiny_config):
        1 / 0  # noqa: B018


@pytest.mark.parametrize('how', [
    '(pid 12) is killed by signal: Killed', '(pid(s) 12, 13) exited unexpectedly',
    '(pid 12) is killed by signal: Bus error'])
def test_a_lost_data_worker(tiny_config, how):
    line = explain(RuntimeError(f'DataLoader worker {how}. '), tiny_config)
    assert line.startswith(f'DataLoader worker {how}: memory') and 'train_dataloader.num_workers; --resume' in line


@pytest.mark.parametrize(('error', 'says'), [
    (RuntimeError('albumentations is not installed'), 'albumentations is not installed; install the package'),
    (ImportError('Please run "pip install wandb" to install wandb'), 'pip install wandb'),
    (AttributeError("'ConcatDataset' object has no attribute 'get_cat_ids'"), 'ClassBalancedDataset around each')])
def test_packages_and_wrappers(tiny_config, error, says):
    assert says in explain(error, tiny_config)


@pytest.mark.parametrize('is_rgb', [False, True])
def test_images_with_fewer_channels_than_means(tiny_config, is_rgb):
    from mmdet.models import DetDataPreprocessor
    preprocessor = DetDataPreprocessor(mean=[1.0] * 3, std=[1.0] * 3, bgr_to_rgb=is_rgb)
    with pytest.raises(UserError, match='another number of channels than model.data_preprocessor.mean'), \
            user_errors(tiny_config):
        preprocessor(dict(inputs=[torch.zeros(1, 8, 8, dtype=torch.uint8)], data_samples=None))
