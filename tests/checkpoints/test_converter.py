"""The converter: names, bit-equal round trips, unexpected weights, classes by name, and the command line."""

import copy
import json

import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from safetensors.torch import load_file as load_safetensors

from tests.checkpoints import models, official_names
from tests.end_to_end.tiny_set import ROOT
from vitdet_plugin.checkpoints.classes import match_classes
from vitdet_plugin.checkpoints.converter import convert_checkpoint
from vitdet_plugin.checkpoints.official import load_official
from vitdet_plugin.datasets.coco import classes_of_file
from vitdet_plugin.datasets.image_sets import read_coco_set
from vitdet_plugin.errors import UserError


@pytest.fixture(scope='module')
def tool():
    import importlib.util
    import sys
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location('convert', ROOT / 'tools' / 'model_converters' / 'convert.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def save(path, state):
    torch.save({'model': state}, path)
    return path


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(value.dtype == found[name].dtype and torch.equal(found[name], value)
               for name, value in expected.items())


@pytest.mark.parametrize('names', [official_names.detectron2, official_names.mmdet_project])
@pytest.mark.parametrize('to', ['mmdet', 'safetensors'])
def test_a_detector_round_trip_is_bit_equal(tmp_path, names, to):
    state = models.detector(1).state_dict()
    report = convert_checkpoint(save(tmp_path / 'in.pth', names(state)), tmp_path / 'out', to=to)
    found = load_safetensors(tmp_path / 'out') if to == 'safetensors' else torch.load(tmp_path / 'out')['state_dict']
    same(found, state)
    assert len(report.matched) == len(state) and not report.resized
    again = convert_checkpoint(tmp_path / 'out', tmp_path / 'again.safetensors')  # names of this project
    assert again.recognized_as == 'this project'
    same(load_safetensors(tmp_path / 'again.safetensors'), state)
    target = models.detector(2)
    load_official(target, tmp_path / 'again.safetensors', allow_missing=False)
    same(target.state_dict(), state)


def test_half_precision_and_shared_tensors_are_kept(tmp_path):
    state = {name: value.half() for name, value in models.backbone(1).state_dict().items()}
    state['blocks.1.norm1.weight'] = state['blocks.0.norm1.weight']
    convert_checkpoint(save(tmp_path / 'in.pth', official_names.sam(state)), tmp_path / 'out.safetensors')
    found = load_safetensors(tmp_path / 'out.safetensors')
    assert {value.dtype for value in found.values()} == {torch.float16}
    assert torch.equal(found['backbone.blocks.1.norm1.weight'], state['blocks.0.norm1.weight'])


def test_unexpected_weights_are_errors_unless_allowed_by_name(tmp_path):
    source = save(tmp_path / 'in.pth', {**official_names.mae(models.backbone(1).state_dict()), 'probe.weight':
                                        torch.zeros(1), 'probe.bias': torch.zeros(1)})
    with pytest.raises(UserError, match='has 2 weights that the model lacks .probe.weight, probe.bias'):
        convert_checkpoint(source, tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()
    with pytest.raises(UserError, match='has 1 weights'):
        convert_checkpoint(source, tmp_path / 'out.pth', allow_unexpected=['probe.weight'])
    report = convert_checkpoint(source, tmp_path / 'out.pth', allow_unexpected=['probe.*'])
    assert '  dropped 2: allowed by name' in str(report).splitlines()


def test_patches_of_14_become_16_and_their_grid_follows(tmp_path):
    state = official_names.mae(models.backbone(1).state_dict())
    state |= {'patch_embed.proj.weight': torch.randn(16, 3, 14, 14), 'pos_embed': torch.randn(1, 257, 16)}
    report = convert_checkpoint(save(tmp_path / 'in.pth', state), tmp_path / 'out.pth')
    assert report.resized == {'backbone.patch_embed.proj.weight': '(16, 3, 14, 14) to (16, 3, 16, 16)',
                              'backbone.pos_embed': '(1, 257, 16) to (1, 197, 16)'}
    there, here = models.backbone(2, pretrain_img_size=224), models.backbone(3, pretrain_img_size=224)
    load_official(there, tmp_path / 'in.pth'), load_official(here, tmp_path / 'out.pth')
    assert torch.equal(there.pos_embed, here.pos_embed)
    assert torch.equal(there.patch_embed.proj.weight, here.patch_embed.proj.weight)


def test_positions_that_are_not_a_square_are_not_resized(tmp_path):
    state = official_names.mae(models.backbone(1).state_dict())
    state |= {'patch_embed.proj.weight': torch.randn(16, 3, 14, 14), 'pos_embed': torch.randn(1, 250, 16)}
    source = save(tmp_path / 'in.pth', state)
    with pytest.raises(UserError, match=r'in\.pth: pos_embed of shape \(1, 250, 16\) .* --patch-size 0'):
        convert_checkpoint(source, tmp_path / 'out.pth')
    assert not convert_checkpoint(source, tmp_path / 'out.pth', patch_size=None).resized


def test_scaled_rel_pos_is_given_by_name(tmp_path):
    group_norm = dict(type='GN', num_groups=1)
    state = models.detector(1, group_norm).state_dict()
    source = save(tmp_path / 'in.pth', official_names.easycv(state))
    convert_checkpoint(source, tmp_path / 'out.pth', form='EasyCV ViTDet, scaled rel_pos')
    found = torch.load(tmp_path / 'out.pth')['state_dict']
    for name, value in state.items():
        assert torch.equal(found[name], value * 8 ** -0.5 if 'rel_pos' in name else value), name  # heads of 8
    with pytest.raises(UserError, match="format 'EasyCV' is unknown; choose one of .*'detectron2 ViTDet'"):
        convert_checkpoint(source, tmp_path / 'out.pth', form='EasyCV')


def test_classes_are_reordered_by_name(tmp_path):
    names, targets = ['ant', 'bee', 'cow'], ['cow', 'ant']
    state = {'roi_head.bbox_head.fc_cls.bias': torch.arange(4.), 'roi_head.bbox_head.fc_reg.bias': torch.arange(12.),
             'roi_head.mask_head.conv_logits.weight': torch.arange(3.)[:, None], 'rpn_head.rpn_cls.bias':
             torch.arange(3.)}
    done = match_classes(state, names, targets)
    assert [value.flatten().tolist() for value in state.values()] == [
        [2, 0, 3], [8, 9, 10, 11, 0, 1, 2, 3], [2, 0], [0, 1, 2]]
    assert len(done) == 3 and set(done.values()) == {'classes by name, 3 to 2'}
    for wrong, message in ((['cow', 'dog'], 'not among those of the checkpoint: dog'), (['cow', 'cow'], 'repeat: cow')):
        with pytest.raises(UserError, match=message):
            match_classes(state, names, wrong)
    with pytest.raises(UserError, match='fc_cls.bias: the order of its outputs for 5 classes is unknown; check'):
        match_classes(state, ['a', 'b', 'c', 'd', 'e'], ['a'])
    with pytest.raises(UserError, match='no layer of the checkpoint has outputs for 3 classes'):
        match_classes({'backbone.norm.bias': torch.zeros(3)}, names, targets)


@pytest.mark.parametrize(('name', 'text'), [('names.txt', 'ant\r\nbee\r\n'), ('coco.json', json.dumps(
    dict(images=[dict(id=1, file_name='a.jpg')], categories=[dict(id=2, name='ant'), dict(id=1, name='bee')])))])
def test_class_files_may_have_a_byte_order_mark(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode('utf-8-sig'))
    assert classes_of_file(tmp_path / name) == ['ant', 'bee']
    if name == 'coco.json':  # one order for weights and data
        (tmp_path / 'a.jpg').touch()
        assert read_coco_set(tmp_path, tmp_path / name).classes == ['ant', 'bee']
        (tmp_path / name).write_text('{"categories": [{"id": 2, "name": "ant"}, {"id": 1, "name": 7}]}')
        assert classes_of_file(tmp_path / name) == ['ant', '7']


@pytest.mark.parametrize(('content', 'says'), [('caf\u00e9'.encode('latin-1'), 'not UTF-8 text'), (b'\n', 'no class')])
def test_class_files_without_readable_names_are_named(tmp_path, content, says):
    (tmp_path / 'names.txt').write_bytes(content)
    with pytest.raises(UserError, match=f'names.txt: .*{says}'):
        classes_of_file(tmp_path / 'names.txt')


def test_a_detector_for_other_classes_keeps_its_last_layers(tmp_path):
    source = save(tmp_path / 'in.pth', official_names.detectron2(models.detector(1).state_dict()))
    target = models.detector(2, num_classes=5)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(UserError, match=r'fc_cls.weight is \(4, 16\), the model requires \(6, 16\)'):
        load_official(target, source)
    report = load_official(target, source, other_classes=True)
    assert '  dropped 2: 4 outputs for other classes, here 6: re-initialized' in str(report).splitlines()
    after = target.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == {name for name in after if not any(part in name for part in ('fc_cls', 'fc_reg', 'conv_logits'))}


def test_the_command_line(tool, tmp_path, capsys):
    source = save(tmp_path / 'in.pth', official_names.mae(models.backbone(1).state_dict()))
    assert tool.main([str(source), str(tmp_path / 'out.safetensors')]) == 0
    assert 'recognized as MAE' in capsys.readouterr().out
    assert 'backbone.pos_embed' in load_safetensors(tmp_path / 'out.safetensors')
    torch.save(dict(state_dict={'a': torch.ones(1)}), tmp_path / 'strange.pth')
    for words, says in ((['none.pth', 'x.pth'], 'none.pth does not exist'), ([str(tmp_path / 'strange.pth'), 'x.pth'],
                        'format of the weights is unknown'), ([str(source), str(source)], 'choose another name'),
                        ([str(source), 'x.pth', '--classes-from', 'a'], 'belong together'),
                        ([str(source), 'x.pth', '--config', str(tmp_path / 'c.py')], 'c.py does not exist')):
        assert tool.main(words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith('error: ') and says in line


def test_a_config_fits_the_weights_to_its_model(tool, tmp_path, capsys, monkeypatch):
    """A classifier's checkpoint for a detector: the backbone is loaded, the head is left out with a reason."""
    monkeypatch.setenv('TINY_SET', '/nowhere')
    config = ROOT / 'tests' / 'end_to_end' / 'tiny_vitdet.py'
    from mmengine.registry import MODELS

    from vitdet_plugin.config.loading import load_config
    detector = models.randomize(MODELS.build(load_config(str(config)).model), 1)
    state = {name: value for name, value in detector.state_dict().items() if name.startswith('backbone.')}
    save(tmp_path / 'in.pth', {**state, 'head.fc.weight': torch.zeros(5, 32)})
    assert tool.main([str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth'), '--config', str(config)]) == 0
    assert 'dropped 1: classification head: the detector has none' in capsys.readouterr().out
    same(torch.load(tmp_path / 'out.pth')['state_dict'], state)


@pytest.mark.parametrize('classes', [3, 2])
def test_a_config_finds_the_layers_of_the_classes(tool, tmp_path, capsys, classes):
    """A config for the classes before or after the reordering, and a head that is not known by names."""
    init_default_scope('mmdet')
    head = dict(type='GFLHead', num_classes=3, in_channels=32, feat_channels=8, stacked_convs=1, norm_cfg=None,
                anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], strides=[16], scales=[4]),
                loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
                train_cfg=dict(assigner=dict(type='ATSSAssigner', topk=9)))
    backbone = dict(type='ViTDet', arch=dict(embed_dim=32, depth=1, num_heads=4), img_size=64)
    model = dict(type='GFL', backbone=backbone, neck=None, bbox_head=head)
    state = models.randomize(MODELS.build(copy.deepcopy(model)), 1).state_dict()
    head['num_classes'] = classes
    (tmp_path / 'gfl.py').write_text(f"default_scope = 'mmdet'\nmodel = {model}\n")
    source = save(tmp_path / 'in.pth', state)
    (tmp_path / 'from.txt').write_text('ant\nbee\ncow\n')
    (tmp_path / 'to.txt').write_text('cow\nant\n')
    words = [str(source), str(tmp_path / 'out.pth'), '--classes-from', str(tmp_path / 'from.txt'), '--classes-to',
             str(tmp_path / 'to.txt')]
    assert tool.main(words) == 2
    assert 'bbox_head.gfl_cls.weight: the order of its outputs for 3 classes is unknown' in capsys.readouterr().err
    assert tool.main([*words, '--config', str(tmp_path / 'gfl.py')]) == 0
    expected = {name: value[[2, 0]] if 'gfl_cls' in name else value for name, value in state.items()}
    same(torch.load(tmp_path / 'out.pth')['state_dict'], expected)
    (tmp_path / 'from.txt').write_text('ant\nbee\ncow\ndog\n')
    head['num_classes'] = 7
    (tmp_path / 'gfl.py').write_text(f"default_scope = 'mmdet'\nmodel = {model}\n")
    assert tool.main([*words, '--config', str(tmp_path / 'gfl.py')]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert 'gfl.py: classes cannot be reordered: none of its weights depends on num_classes=4' in line


def test_patches_of_own_files_are_not_resized(tmp_path):
    state = models.backbone(1, patch_size=8).state_dict()
    own = {f'backbone.{name}': value for name, value in state.items()}
    report = convert_checkpoint(save(tmp_path / 'in.pth', own), tmp_path / 'out.safetensors')
    assert report.recognized_as == 'this project' and not report.resized
    same(load_safetensors(tmp_path / 'out.safetensors'), own)
