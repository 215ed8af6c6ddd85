"""Checkpoints whose classes are in another order than the data set, or other classes: tests, training, resuming."""

import copy
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from tests.datasets.tiny_classes import CLASSES as FOLDERS
from tests.datasets.tiny_classes import write_class_folders
from tests.end_to_end.tiny_set import CLASSES, CONFIG
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.api import Inferencer, test
from vitdet_plugin.engine.class_order import ClassOrderHook, check_labels, reorder_checkpoint
from vitdet_plugin.errors import UserError

OTHER = ('plum', 'apple', 'lime')
LISTS = "checkpoint: ['plum', 'apple', 'lime']; data set: ['apple', 'lime', 'plum']"
ALL_SCORES = ['model.test_cfg.rcnn.score_thr=0.0', 'model.test_cfg.rcnn.max_per_img=100']
OPTIONS = ['model.test_cfg.rcnn.score_thr=0.0', 'model.rpn_head.num_convs=1']


@pytest.fixture(scope='module')
def weights():
    init_default_scope('mmdet')
    torch.manual_seed(0)
    state = MODELS.build(Config.fromfile(CONFIG).model).state_dict()
    for name in ('fc_cls.weight', 'fc_reg.weight'):  # so that classes differ
        nn.init.normal_(state[f'roi_head.bbox_head.{name}'], std=0.3)
    return state


@pytest.fixture
def save(weights, tmp_path):
    """Return a function that saves the weights with these class names."""
    def save(names=None, name='w.pth', **meta):
        meta = {**meta, **(dict(dataset_meta=dict(classes=names)) if names else {})}
        torch.save(dict(state_dict=weights, meta=meta), tmp_path / name)
        return str(tmp_path / name)
    return save


def found_by_name(path, tiny_set):
    """Category, image, box and score of each detection in a result file, sorted."""
    names = {each['id']: each['name'] for each in json.loads((tiny_set / 'coco.json').read_text())['categories']}
    return sorted((names[each['category_id']], each['image_id'], *np.round(each['bbox'], 3), round(each['score'], 5))
                  for each in json.loads(path.read_text()))


def test_a_test_gives_each_class_its_name(save, tiny_set, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    options = dict(work_dir=tmp_path / 'work', cfg_options=ALL_SCORES)
    checkpoint = save(OTHER)
    test(CONFIG, checkpoint, out=tmp_path / 'out.json', **options)
    output = capsys.readouterr().out
    assert f'w.pth: 6 weights reordered by class name to the order of the data set. {LISTS}' in output
    expected = []
    for path in sorted((tiny_set / 'images').iterdir()):  # names of the checkpoint, no reordering
        found, = Inferencer.load(CONFIG, checkpoint, 'cpu', ALL_SCORES).predict(path, score_thr=0)
        expected += [(name, int(path.stem), *np.round([x1, y1, x2 - x1, y2 - y1], 3), round(float(score), 5))
                     for name, (x1, y1, x2, y2), score in zip(found.names, found.boxes, found.scores)]
    found = found_by_name(tmp_path / 'out.json', tiny_set)
    assert [each[:2] for each in found] == [each[:2] for each in sorted(expected)]
    np.testing.assert_allclose([each[2:] for each in found], [each[2:] for each in sorted(expected)], atol=2e-3)
    assert len({name for name, *_ in found}) > 1


def test_a_test_with_other_classes_is_refused(save, tiny_set, tmp_path, monkeypatch):
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    with pytest.raises(UserError, match=r"w.pth: its classes are not .* \['a', 'b'\]; data set: \['apple', 'lime'"):
        test(CONFIG, save(('a', 'b')), work_dir=tmp_path)


def fake_runner(model, training=True, resume=False, classes=CLASSES, model_cfg=None, **cfg):
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes))))
    return SimpleNamespace(_load_from='w.pth', _resume=resume, _train_loop=loop if training else None, _val_loop=None,
                           _test_loop=loop, model=model, cfg=dict(model=model_cfg, **cfg))


class Named(nn.Module):
    """A model whose state is ``weights``."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights

    def state_dict(self, *args, **kwargs):
        return self.weights


def load(hook, runner, weights, names, **content):
    checkpoint = dict(state_dict=weights, meta=dict(dataset_meta=dict(classes=names, palette=1)), **content)
    hook.after_load_checkpoint(runner, checkpoint)
    return checkpoint


def test_training_starts_from_reordered_weights_and_averages(weights, capsys):
    runner = fake_runner(Named(weights), model_cfg=Config.fromfile(CONFIG).model)
    averaged = {f'module.{name}': value for name, value in weights.items()}
    loaded = load(ClassOrderHook(), runner, weights, OTHER, ema_state_dict=dict(averaged, steps=torch.tensor(1)))
    order = [1, 2, 0]
    name = 'roi_head.mask_head.conv_logits.weight'
    assert torch.equal(loaded['state_dict'][name], weights[name][order])
    assert torch.equal(loaded['ema_state_dict'][f'module.{name}'], weights[name][order])
    assert torch.equal(loaded['state_dict']['rpn_head.rpn_cls.weight'], weights['rpn_head.rpn_cls.weight'])
    assert loaded['meta']['dataset_meta'] == dict(classes=CLASSES, palette=1)
    assert LISTS in capsys.readouterr().out
    again = copy.copy(loaded)
    ClassOrderHook().after_load_checkpoint(runner, again)
    assert torch.equal(again['state_dict'][name], loaded['state_dict'][name])


def test_other_classes_in_training_are_one_line(weights, capsys):
    load(ClassOrderHook(), fake_runner(Named(weights)), weights, ('x', 'y', 'z'))
    line, = capsys.readouterr().out.splitlines()
    assert 'its classes are not those of the data set; weights for another number of classes keep' in line


@pytest.mark.parametrize('runner, names, says', [
    (dict(resume=True), OTHER, 'or start from its weights with --load-from'),
    (dict(resume=True), 'xyz', '--skip-preflight accepts them'), (dict(training=False), 'xyz', 'use a config with'),
    (dict(strategy=dict(type='FSDPStrategy')), OTHER, 'in the order of the checkpoint'),
    (dict(model_cfg=dict(type='Nothing')), OTHER, 'the model cannot be built'),
    (dict(model_cfg=dict(type='Linear', in_features=1, out_features=1)), OTHER, 'none of its weights')])
def test_refusals_have_both_lists(weights, runner, names, says):
    MODELS.register_module(name='Linear', module=nn.Linear, force=True)
    with pytest.raises(UserError) as caught:
        load(ClassOrderHook(), fake_runner(Named(weights), **runner), weights, tuple(names))
    text = str(caught.value)
    assert says in text and text.startswith('w.pth') and "['apple', 'lime', 'plum']" in text and '\n' not in text


def test_without_the_preflight_other_names_are_taken_in_their_order(weights, capsys):
    load(ClassOrderHook(strict=False), fake_runner(Named(weights), training=False), weights, ('x', 'y', 'z'))
    assert capsys.readouterr().out.startswith('warning: w.pth')


def test_a_file_with_hardly_any_weight_of_the_model_is_refused(weights):
    some = dict(list(weights.items())[:20])
    hook = ClassOrderHook()
    with pytest.raises(UserError, match=f'20 of {len(weights)} weights of the model are in the file'):
        load(hook, fake_runner(Named(weights), training=False), some, CLASSES)
    load(hook, fake_runner(Named(weights)), some, CLASSES)  # initializes training
    with pytest.raises(UserError, match='0 of'):
        load(hook, fake_runner(Named(weights)), {'other': torch.zeros(1)}, CLASSES)


def test_labels_that_would_be_mixed_up():
    from mmdet.datasets import CocoDataset

    class MergedDataset(CocoDataset):
        def load_data_list(self):
            return []

    coco, merged = (kind.__new__(kind) for kind in (CocoDataset, MergedDataset))
    for each in (coco, merged):
        each.cat_ids, each._metainfo, each.ann_file = [1, 3], dict(classes=('a', 'b', 'c')), 'x.json'
    check_labels(merged)  # its own reader makes the labels
    with pytest.raises(UserError, match='x.json has 2 categories .* 3 classes'):
        check_labels(SimpleNamespace(datasets=[SimpleNamespace(dataset=coco)]))
    folders = SimpleNamespace(folder_to_idx=dict(a=0, b=1), metainfo=dict(classes=('b', 'a')), img_prefix='set')
    with pytest.raises(UserError, match='set: the classes are in another order than the sorted folders'):
        check_labels(folders)
    check_labels(SimpleNamespace(metainfo=dict(classes=('a', 'b')), cat_ids=[7, 2]))


def test_a_classifier_gives_each_class_its_name(tmp_path):
    root = write_class_folders(tmp_path / 'set', per_class=2)
    config, checkpoint = write_classifier(tmp_path, root, classes=FOLDERS[::-1])
    test(config, checkpoint, work_dir=tmp_path / 'work', out=tmp_path / 'out.json',
         cfg_options=['test_evaluator.topk=1'])
    model = Inferencer.load(config, checkpoint, 'cpu')
    record = json.loads((tmp_path / 'out.json').read_text())
    assert record['classes'] == list(FOLDERS) and model.classes == FOLDERS[::-1]
    for row in record['predictions']:
        found, = model.predict(row['file'])
        assert found.name == row['class'] and found.score == pytest.approx(row['score'], abs=1e-4)


def test_the_weights_of_a_classifier_are_reordered():
    cfg = dict(type='mmpretrain.ImageClassifier', data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
               backbone=dict(type='mmpretrain.LeNet5'), head=dict(type='mmpretrain.LinearClsHead', in_channels=4,
                                                                  num_classes=3))
    content = dict(state_dict={'head.fc.weight': torch.arange(12.).view(3, 4), 'head.fc.bias': torch.arange(3.)})
    assert reorder_checkpoint(content, [2, 0, 1], 'cab', cfg, 'w.pth') == 2
    assert content['state_dict']['head.fc.bias'].tolist() == [2, 0, 1]
