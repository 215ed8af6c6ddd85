"""Options that name variables of a config: what the file computes from them follows, or one line says why not."""

import inspect

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.options import _RUNNER_KEYS
from vitdet_plugin.config.overrides import check_option_keys
from vitdet_plugin.errors import UserError

BASE = """
max_iters = 100
root = 'data/'
meta = dict(classes=('a', 'b'))
unused = 3
load_from = '/w.pth'
steps = [dict(type='LoadImageFromFile')]
if max_iters > 10:
    steps.append(dict(type='Resize', scale=(max_iters, 8)))
train_cfg = dict(by_epoch=False, max_iters=max_iters, val_interval=max_iters // 2)
val_dataloader = dict(batch_size=1, dataset=dict(type='CocoDataset', data_root=root, pipeline=steps))
test_dataloader = val_dataloader
model = dict(type='MaskRCNN', train_cfg=dict(weights=load_from))
"""
CHILD = """
_base_ = 'base.py'
root = _base_.root + 'mine/'
lr, decay = 1e-3, 0.1
meta = _base_.meta
meta['palette'] = [(1, 2, 3)]
num_classes = len(meta['classes'])
total = {{_base_.max_iters}}
val_dataloader = dict(dataset=dict(metainfo=meta))
val_evaluator = dict(type='CocoMetric', ann_file=root + 'x.json')
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=lr, weight_decay=decay))
randomness = dict(seed=total)
custom_hooks = [dict(type='EMAHook', begin_iter=num_classes)]
"""


@pytest.fixture
def child(tmp_path):
    (tmp_path / 'base.py').write_text(BASE)
    (tmp_path / 'child.py').write_text(CHILD)
    return str(tmp_path / 'child.py')


def test_everything_computed_from_a_variable_follows(child):
    cfg = load_config(child, ['max_iters=6', 'root=/new dir/', 'meta.classes=[x,y,z]', 'decay=None', 'lr=-1e-5'])
    assert cfg.train_cfg == dict(by_epoch=False, max_iters=6, val_interval=3)
    assert cfg.val_dataloader.dataset.data_root == '/new dir/' and cfg.val_evaluator.ann_file == '/new dir/x.json'
    assert cfg.val_dataloader.dataset.metainfo == dict(classes=['x', 'y', 'z'], palette=[(1, 2, 3)])
    assert cfg.optim_wrapper.optimizer == dict(type='AdamW', lr=-1e-5, weight_decay=None)
    assert cfg.randomness.seed == 6 and cfg.custom_hooks[0].begin_iter == 3
    assert len(cfg.val_dataloader.dataset.pipeline) == 1  # the condition is evaluated with the new value


def test_the_dumped_config_reproduces_the_run(child, tmp_path):
    cfg = load_config(child, {'max_iters': 6, 'steps.0.to_float32': True})
    cfg.dump(tmp_path / 'dumped.py')
    assert load_config(tmp_path / 'dumped.py').to_dict() == cfg.to_dict()
    assert cfg.val_dataloader.dataset.pipeline[0].to_float32
    with pytest.raises(UserError, match="computed from 'max_iters'; set the keys that are used: train_cfg.max_iters"):
        load_config(tmp_path / 'dumped.py', ['max_iters=7'])


def test_sections_are_merged_and_take_precedence(child):
    cfg = load_config(child, ['train_cfg.max_iters=4', 'max_iters=20', 'val_dataloader.batch_size=2',
                              'load_from=/v.pth'])
    assert cfg.train_cfg == dict(by_epoch=False, max_iters=4, val_interval=10)
    assert (cfg.val_dataloader.batch_size, cfg.test_dataloader.batch_size) == (2, 1)
    assert cfg.load_from == cfg.model.train_cfg.weights == '/v.pth'
    assert load_config(child, ['steps.1.scale=(5,5)']).test_dataloader.dataset.pipeline[1].scale == (5, 5)


@pytest.mark.parametrize('option, says', [
    ('unused=4', "nothing in .*child.py is computed from 'unused'"),
    ('max_itres=4', 'did you mean max_iters'),
    ('lr_mult=4', "no key 'lr_mult'"),
    ('batch_size=4', "no key 'batch_size'; set the keys that are used: val_dataload"),
    ('max_iters=four', 'a number here'),
    ('max_iters=None', "max_iters=None: config .*base.py, line 8: TypeError: '>' not supported"),
    ('total_epochs=3', r'\(in mmdet 3: train_cfg.max_epochs\)')])
def test_options_without_effect_are_refused(child, option, says):
    with pytest.raises(UserError, match=says) as caught:
        load_config(child, [option])
    assert '\n' not in str(caught.value)


def test_the_present_value_is_accepted_and_a_covered_variable_is_a_warning(child, tmp_path, capsys):
    assert load_config(child, ['unused=3', 'max_iters=100']).train_cfg.max_iters == 100
    assert capsys.readouterr().err == ''
    (tmp_path / 'third.py').write_text("_base_ = 'base.py'\nval_dataloader = dict(dataset=dict(data_root='here/'))\n"
                                       "test_dataloader = dict(dataset=dict(data_root='here/'))\n")
    load_config(tmp_path / 'third.py', ['root=other/'])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('warning: --cfg-options root: changes nothing, because')


def test_a_variable_that_no_key_of_its_name_takes_is_a_warning_with_these_keys(child, tmp_path, capsys):
    (tmp_path / 'third.py').write_text(
        "_base_ = 'child.py'\nbatch_size = 4\nauto_scale_lr = dict(base_batch_size=batch_size)\n"
        'val_dataloader = dict(batch_size=2)\n')
    cfg = load_config(tmp_path / 'third.py', ['batch_size=8'])
    assert cfg.auto_scale_lr.base_batch_size == 8
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith('warning: --cfg-options batch_size=8: no key of a section takes this value')
    assert 'did you mean val_dataloader.batch_size (2), test_dataloader.batch_size (1)?' in line
    load_config(tmp_path / 'third.py', ['batch_size=2', 'lr=3', 'meta=dict(classes=[x,y])'])
    assert capsys.readouterr().err == ''


def test_configs_in_yaml_and_json_follow_their_base(child, tmp_path):
    for name, text in {'a.yaml': '_base_: child.py\nlr: 2\nlog_level: {{_base_.root}}\n',
                       'a.json': '{"_base_": "child.py", "log_level": {{_base_.root}}, "own": 1}'}.items():
        (tmp_path / name).write_text(text)
        cfg = load_config(tmp_path / name, ['root=/y/', 'max_iters=8'])
        assert cfg.log_level == cfg.val_dataloader.dataset.data_root == '/y/' and cfg.train_cfg.max_iters == 8
    with pytest.raises(UserError, match="nothing in .*a.json is computed from 'own'"):
        load_config(tmp_path / 'a.json', ['own=2'])


def test_configs_in_pure_python_are_refused_where_an_option_has_no_effect(tmp_path):
    path = tmp_path / 'lazy.py'
    path.write_text('from mmengine.config import read_base\nwith read_base():\n    from .part import *\n'
                    'train_cfg = dict(by_epoch=False, max_iters=max_iters)\n')
    (tmp_path / 'part.py').write_text('max_iters = 5\n')
    (tmp_path / '__init__.py').touch()
    assert load_config(path, ['train_cfg.max_iters=9']).train_cfg.max_iters == 9
    with pytest.raises(UserError, match='pure Python .*set the keys that are used: train_cfg.max_iters'):
        load_config(path, ['max_iters=9'])


def test_a_loaded_config_is_evaluated_again_only_if_it_is_unchanged(child):
    cfg = Config.fromfile(child)
    assert load_config(cfg, {'max_iters': 9}).train_cfg.max_iters == 9
    cfg.val_evaluator.ann_file = 'y.json'
    with pytest.raises(UserError, match="'max_iters' was read when the config was loaded"):
        load_config(cfg, {'max_iters': 9})
    assert load_config(cfg, {'train_cfg.max_iters': 9}).val_evaluator.ann_file == 'y.json'


def test_the_documented_example():
    cfg = load_config('mask-rcnn_vitdet-tiny_lsj-500it_fruits-nuts', [
        'data_root=data/pets/', 'max_iters=200', 'metainfo.classes=[cat,dog]'])
    assert cfg.train_dataloader.dataset.data_root == cfg.test_dataloader.dataset.data_root == 'data/pets/'
    assert cfg.val_evaluator.ann_file.startswith('data/pets/')
    assert cfg.train_dataloader.dataset.metainfo.classes == ['cat', 'dog']
    assert cfg.model.roi_head.bbox_head.num_classes == cfg.model.roi_head.mask_head.num_classes == 2
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[1].end == cfg.default_hooks.checkpoint.interval == 200


def test_environment_variables_and_custom_imports(child, tmp_path, monkeypatch):
    (tmp_path / 'env.py').write_text("_base_ = 'child.py'\nname = '{{$SOME_NAME:none}}'\nexperiment_name = name\n")
    assert load_config(tmp_path / 'env.py', ['max_iters=9']).experiment_name == 'none'
    monkeypatch.setenv('SOME_NAME', 'set')
    assert load_config(tmp_path / 'env.py', ['max_iters=9']).experiment_name == 'set'
    assert load_config(tmp_path / 'env.py', ['name=mine']).experiment_name == 'mine'
    with pytest.raises(UserError, match='custom_imports: .*no_such_module'):
        load_config(child, ['custom_imports.imports=[no_such_module]', 'custom_imports.allow_failed_imports=False'])


def test_wrong_keys_are_found_before_mmdet_is_imported(child):
    check_option_keys(child, ['max_iters', 'train_cfg.max_iters', 'resume'])
    with pytest.raises(UserError, match='did you mean model'):
        check_option_keys(child, ['modle.x'])


def test_the_list_of_runner_keys_is_complete():
    assert {*inspect.signature(Runner.__init__).parameters} - {'self'} == _RUNNER_KEYS
