import errno

import pytest
from mmengine.config import Config

from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.options import apply_options, parse_options
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest


def write(folder, text, name='config.py'):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_options_are_parsed_and_merged(tiny_config):
    apply_options(tiny_config, parse_options(['optim_wrapper.optimizer.lr=0.5', 'train_dataloader.batch_size=3',
                                              'metainfo.classes=[a,b]', 'param_scheduler.0.end=9',
                                              'randomness.deterministic=True', 'load_from=None']))
    assert tiny_config.optim_wrapper.optimizer.lr == 0.5
    assert tiny_config.train_dataloader.batch_size == 3
    assert tiny_config.metainfo.classes == ['a', 'b']
    assert tiny_config.param_scheduler[0].end == 9
    assert tiny_config.randomness == dict(seed=0, deterministic=True)


@pytest.mark.parametrize('word, says', [
    ('modle.neck.out_channels=8', "'modle' (did you mean model"),
    ('model.backbone.drop_path=0.1', 'drop_path_rate'),
    ('train_dataloader.batchsize=3', 'batch_size'),
    ('train_dataloader.dataset.annfile=x', 'ann_file'),
    ('train_cfg.val_intervall=3', 'val_interval'),
    ('optim_wrapper.optimizer.lrr=3', 'did you mean lr'),
    ('train_dataloader.batch_size=two', 'a number here (2)'),
    ('train_dataloader.batch_size.x=2', 'has no keys'),
    ('train_cfg=5', 'the config has a section here; set its keys, such as train_cfg.type='),
    ('param_scheduler.7.end=3', 'list of 1'),
    ('model', 'expected KEY=VALUE'),
    ('work_dir=[a', 'brackets'),
])
def test_a_wrong_option_is_named_with_similar_keys(tiny_config, word, says):
    before = tiny_config.to_dict()
    with pytest.raises(UserError) as caught:
        apply_options(tiny_config, parse_options([word]))
    assert says in str(caught.value) and '\n' not in str(caught.value)
    assert tiny_config.to_dict() == before


@pytest.mark.parametrize('word', ['find_unused_parameters=True', 'train_dataloader.dataset.indices=10',
                                  'model.backbone.with_cp=True', 'optim_wrapper.accumulative_counts=2',
                                  'default_hooks.checkpoint.max_keep_ckpts=1', 'train_dataloader.prefetch_factor=3'])
def test_new_keys_that_are_read_are_accepted(tiny_config, word):
    apply_options(tiny_config, parse_options([word]))


@pytest.mark.parametrize('text, says', [
    ('a = 1\nb = dict(x=1\n', 'line 2'),
    ('a = 1\nb = c\n', "line 2: NameError: name 'c' is not defined: b = c"),
    ('n = 0\nsteps = 100 // n\n', 'line 2: ZeroDivisionError: integer division or modulo by zero: steps = 100 // n'),
    ('_base_ = 3\n', '_base_ has 3; give a path or a list of paths'),
    ("_base_ = 'missing.py'\n", 'missing.py'),
    ("custom_imports = dict(imports=['no_such_module'])\n", 'no_such_module'),
])
def test_a_broken_config_is_reported_with_file_and_line(tmp_path, text, says):
    with pytest.raises(UserError, match='config.py') as caught:
        load_config(write(tmp_path, text))
    assert says in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('options', [[], ['a=2']])
def test_a_config_that_ends_the_program_is_reported(tmp_path, options):
    (tmp_path / 'config.py').write_text('import sys\na = 1\nsys.exit(0)\n')
    with pytest.raises(UserError, match=r'config\.py, line 3: SystemExit: 0'):
        load_config(tmp_path / 'config.py', options)


@pytest.mark.parametrize('name, text, says', [
    ('a.yaml', 'b: [1,\n', 'while parsing a flow node .*line 2, column 1'),
    ('a.yml', 'b: {c: 1\n', 'while parsing a flow mapping'),
    ('a.json', '{"b": }', 'Expecting value: line 1 column 7')])
def test_errors_of_yaml_and_json_name_the_file(tmp_path, name, text, says):
    path = write(tmp_path, text, name)
    for config in (path, write(tmp_path, f'_base_ = {name!r}\n')):
        with pytest.raises(UserError, match=f'^config {path}: {says}') as caught:
            load_config(config)
        assert '\n' not in str(caught.value) and str(caught.value).count('/tmp') <= 1


def test_a_circular_base(tmp_path):
    a = write(tmp_path, "_base_ = 'b.py'\n", 'a.py')
    b = write(tmp_path, f"_base_ = ['./../{tmp_path.name}/a.py']\n", 'b.py')
    with pytest.raises(UserError, match=f'^circular _base_: {a} -> {b} -> {a}; remove one of these$'):
        load_config(a)
    itself = write(tmp_path, "_base_ = 'c.yaml'\n", 'd.py')
    own = write(tmp_path, '_base_: c.yaml\n', 'c.yaml')
    with pytest.raises(UserError, match=f'^circular _base_: {own} -> {own}; remove one of these$'):
        load_config(itself)


def test_a_base_that_two_files_share_is_not_circular(tmp_path):
    write(tmp_path, 'a = 1\n', 'first.py')
    write(tmp_path, "_base_ = 'first.py'\nb = 2\n", 'second.py')
    write(tmp_path, "_base_ = 'first.py'\na = 3\n", 'third.py')
    with pytest.raises(UserError, match='Duplicate key is not allowed among bases'):
        load_config(write(tmp_path, "_base_ = ['second.py', 'third.py']\n"))
    assert load_config(write(tmp_path, "_base_ = 'second.py'\n")).a == 1


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EFBIG])
def test_a_full_temporary_folder(tmp_path, monkeypatch, number):
    def fail(*_):
        raise OSError(number, 'full')
    monkeypatch.setattr(Config, '_substitute_predefined_vars', fail)
    with pytest.raises(UserError, match='in the temporary folder .* cannot be written .full.; free some space'):
        load_config(write(tmp_path, 'a = 1\n'))


def test_a_broken_base_is_named_instead_of_its_child(tmp_path):
    write(tmp_path, 'a = (\n', 'base.py')
    with pytest.raises(UserError, match=r'base\.py, line 1'):
        load_config(write(tmp_path, "_base_ = 'base.py'\n"))


@pytest.mark.parametrize('path, says', [('configs/vitdet_100.py', 'does not exist'), ('mmdet::no/such.py', 'mmdet::')])
def test_a_missing_config_is_one_line(path, says):
    with pytest.raises(UserError, match=says):
        load_config(path)


def test_a_checkpoint_instead_of_the_config(tmp_path):
    with pytest.raises(UserError, match='config before the checkpoint'):
        load_config(write(tmp_path, '', 'epoch_1.pth'))


def test_configs_of_mmdet_load_by_name():
    assert load_config('mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py').model.type == 'MaskRCNN'


def test_suggestions_ignore_case_and_different_names():
    assert suggest('vitdet', ['ViTDet', 'ResNet']) == ' (did you mean ViTDet?)'
    assert suggest('xyz', ['ViTDet', 'ResNet']) == ''
