"""The Inferencer with a tiny random classifier: files and arrays, class names, errors."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_classes import CLASSES, CONFIG, write_tiny_classes
from vitdet_plugin.api import Inferencer
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.errors import UserError

NEW = 'set/new images/9 b.png'


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp('api classes')
    write_tiny_classes(folder / 'set', train=1, val=1)
    model = build()
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=dict(classes=('x', 'y', 'z')))),
               folder / 'named.pth')
    torch.save(dict(state_dict=model.state_dict()), folder / 'nameless.pth')
    return folder


def build():
    cfg = load_config(str(CONFIG))
    init_default_scope('mmpretrain')
    from mmpretrain.registry import MODELS
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def test_models_of_other_results_are_one_line(files):
    cfg = load_config(str(CONFIG))
    several = cfg.copy()
    several.model = dict(cfg.model, head=dict(type='MultiTaskHead', task_heads=dict(kind=cfg.model.head)))
    with pytest.raises(UserError, match='^MultiTaskHead predicts several tasks, and only one'):
        Inferencer.load(several, device='cpu')
    retriever = cfg.copy()
    retriever.model = dict(type='ImageToImageRetriever', prototype=torch.ones(2, 32),
                           image_encoder=[cfg.model.backbone, dict(type='GlobalAveragePooling')])
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(UserError, match='^ImageToImageRetriever predicts neither objects nor one set of classes'):
        Inferencer.load(retriever, device='cpu').predict(image)


@pytest.fixture(scope='module')
def classifier(files):
    return Inferencer.load(CONFIG, files / 'named.pth', 'cpu')


def test_all_classes_sorted_by_score(files, classifier):
    found, = classifier.predict(files / NEW)
    assert classifier.is_classifier and found.scores.shape == found.labels.shape == (3,)
    assert found.scores.sum() == pytest.approx(1, abs=1e-5) and (np.diff(found.scores) <= 0).all()
    assert found.names == ['xyz'[label] for label in found.labels]
    assert (found.name, found.score) == (found.names[0], float(found.scores[0]))
    assert json.loads(json.dumps(found.as_dict(top=2)))['names'] == found.names[:2]


def test_agrees_with_mmpretrains_own_inference(files, classifier):
    from mmpretrain import ImageClassificationInferencer
    path = str(files / NEW)
    classifier.model._config = classifier.cfg
    theirs = ImageClassificationInferencer(classifier.model, device='cpu', classes=list('xyz'))(path)[0]
    found, = classifier.predict(path)
    assert found.name == theirs['pred_class'] and found.score == pytest.approx(float(theirs['pred_score']), abs=1e-5)


def test_files_folders_and_arrays(files, classifier, tmp_path):
    path = files / NEW
    results = classifier.predict([path, cv2.imread(str(path)), files / 'set' / 'val'], out_dir=tmp_path / 'o u t')
    np.testing.assert_array_equal(results[0].scores, results[1].scores)
    assert [found.path for found in results] == [str(path), None, *(str(files / 'set/val' / name / '0.png')
                                                                    for name in CLASSES)]
    out = tmp_path / 'o u t'
    assert sorted(str(path.relative_to(out)) for path in out.rglob('*.jpg')) == sorted([
        '9 b.jpg', 'image_1.jpg', *(f'{name}/0.jpg' for name in CLASSES)])


def test_names_of_the_checkpoint_of_the_config_and_none(files):
    assert Inferencer.load(CONFIG, files / 'named.pth', 'cpu').classes == ('x', 'y', 'z')
    assert Inferencer.load(CONFIG, files / 'nameless.pth', 'cpu').classes == CLASSES
    cfg = load_config(str(CONFIG))
    cfg.test_dataloader.dataset.metainfo = None
    cfg.test_dataloader.dataset.data_root = str(files / 'set')
    assert Inferencer.load(cfg, files / 'nameless.pth', 'cpu').classes == CLASSES  # names of the folders
    cfg.test_dataloader.dataset.data_root = 'nowhere'
    found, = Inferencer.load(cfg, files / 'nameless.pth', 'cpu').predict(files / NEW)
    assert found.names == [f'class {label}' for label in found.labels]


def test_a_config_is_loaded_twice_with_its_mixing_probabilities(files):
    cfg = load_config(str(CONFIG))
    for _ in range(2):  # mmpretrain appends to the list that it receives
        Inferencer.load(cfg, files / 'named.pth', 'cpu')
    assert cfg.model.train_cfg.probs == [0.3, 0.3]


def test_a_checkpoint_of_another_size_is_one_line(files, tmp_path):
    with pytest.raises(UserError, match='num_classes|head') as caught:
        Inferencer.load(CONFIG, files / 'nameless.pth', 'cpu', ['model.head.num_classes=7'])
    assert '\n' not in str(caught.value).strip()
