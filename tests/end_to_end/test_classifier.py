"""Train, evaluate and predict with a classifier, on class folders with spaces in all names."""

import csv
import json
import pickle
import re

import numpy as np
import pytest
import torch

from tests.end_to_end.forked_ranks import train_alone, train_ranks
from tests.end_to_end.tiny_classes import CLASSES, CONFIG, write_tiny_classes
from tests.end_to_end.tiny_set import load_tool
from vitdet_plugin.config.loading import load_config


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return write_tiny_classes(tmp_path_factory.mktemp('tiny classes') / 'my set')


@pytest.fixture
def data(root, monkeypatch):
    monkeypatch.setenv('TINY_CLASSES', str(root))
    return root


@pytest.fixture(scope='module')
def trained(root, tmp_path_factory):
    """Return the work directory and the output of a train command that runs in another folder."""
    work_dir = tmp_path_factory.mktemp('work') / 'a run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TINY_CLASSES', str(root))
        patch.chdir(root)
        result = train_alone(CONFIG, '--work-dir', work_dir, '--seed', 3)
    assert result.returncode == 0, result.stderr
    return work_dir, result.stdout


def scalars_of(work_dir):
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_training_prints_lines_and_saves_checkpoints(trained):
    work_dir, output = trained
    assert re.search(r'train 24/24  epoch 4/4  .*grad [\d.]+  loss [\d.]+', output)  # 21 images: 6 batches, one of 1
    assert re.search(r'val @ epoch 4  top1 [\d.]+  top2 [\d.]+  f1-score [\d.]+', output)
    again = load_config(str(work_dir / 'tiny_classifier.py'))  # the saved config can be loaded
    assert again.model.train_cfg.probs == [0.3, 0.3] and 'probs' not in again.model.data_preprocessor
    metrics = [each for each in scalars_of(work_dir) if 'accuracy/top1' in each]
    assert len(metrics) == 4 and metrics[-1]['accuracy/top1'] > 60
    best, = work_dir.glob('best_accuracy_top1_epoch_*.pth')
    state = torch.load(best, weights_only=False)
    assert tuple(state['meta']['dataset_meta']['classes']) == CLASSES
    assert set(state['ema_state_dict']) > {'steps', 'module.head.fc.weight'}


def test_evaluation_with_other_metrics_writes_files_and_images(trained, data, tmp_path, capsys):
    work_dir, _ = trained  # a work directory selects its best checkpoint
    for name, words in (('found.csv', ['--eval', 'accuracy', 'f1_score', 'recall', '--show-dir',
                                       str(tmp_path / 'drawn images'), '--show-max', '0']),
                        ('found.json', ['--tta'])):
        assert load_tool('test').main([str(CONFIG), str(work_dir), '--work-dir', str(tmp_path / 'w'), '--out',
                                       str(tmp_path / name), *words]) == 0
        output = capsys.readouterr().out
        assert re.search(r'test  top1 [\d.]+  top2 [\d.]+  (recall [\d.]+  )?f1-score [\d.]+', output)
        assert ('recall' in output) == (name == 'found.csv')
        assert 'prefix is not set' not in output
    rows = list(csv.DictReader(open(tmp_path / 'found.csv')))
    assert len(rows) == 9 and [row['file'] for row in rows] == sorted(row['file'] for row in rows)
    assert [row['truth'] for row in rows] == [name for name in CLASSES for _ in range(3)]
    found = json.loads((tmp_path / 'found.json').read_text())
    assert tuple(found['classes']) == CLASSES and len(found['predictions'][0]['scores']) == 3
    images = sorted(str(path.relative_to(tmp_path / 'drawn images')) for path in tmp_path.rglob('*.jpg'))
    assert images == [f'{name}/{number}.jpg' for name in CLASSES for number in range(3)]


def test_pickled_predictions_and_errors(trained, data, tmp_path, capsys):
    best, = trained[0].glob('best_*.pth')
    common = [str(CONFIG), str(best), '--work-dir', str(tmp_path / 'w')]
    assert load_tool('test').main([*common, '--out', str(tmp_path / 'found.pkl')]) == 0
    assert len(pickle.loads((tmp_path / 'found.pkl').read_bytes())) == 9
    for name, load in (('m.json', json.loads), ('m.pkl', pickle.loads)):
        path = tmp_path / name
        assert load_tool('test').main([*common, '--out', str(path), '--out-item', 'metrics', '--eval', 'accuracy']) == 0
        metrics = load(path.read_bytes())
        assert metrics.keys() == {'accuracy/top1', 'accuracy/top2'} and metrics['accuracy/top2'] >= 100 / 3
        assert f'metrics: {path}' in capsys.readouterr().out
    for words, says in ((['--eval', 'bbox'], '--eval bbox: choose from accuracy, precision'),
                        (['--format-only'], '--format-only is for detectors'),
                        (['--out', 'found.txt'], 'for a classifier, .csv')):
        assert load_tool('test').main([*common, *words]) == 2
        assert says in capsys.readouterr().err


def test_prediction_reads_the_classes_from_the_checkpoint(trained, root, tmp_path, capsys, monkeypatch):
    """The training data is not available, and the config has another number of classes."""
    monkeypatch.delenv('TINY_CLASSES', raising=False)
    status = load_tool('predict').main([str(CONFIG), str(trained[0]), str(root / 'new images'), '--out',
                                        str(tmp_path / 'my out'), '--device', 'cpu', '--top', '2', '--cfg-options',
                                        'model.head.num_classes=7', 'test_dataloader.dataset.metainfo.classes=[a,b]'])
    assert status == 0
    rows = list(csv.DictReader(open(tmp_path / 'my out/predictions.csv')))
    names = ('10 b.png', '8 b.png', '9 b.png')
    assert [row['file'] for row in rows] == [str(root / 'new images' / name) for name in names]
    assert [row['class'] for row in rows] == ['plum-tree', 'Fat Hen', 'lime']
    record = json.loads((tmp_path / 'my out/predictions.json').read_text())
    assert [len(each['names']) for each in record] == [2, 2, 2]
    np.testing.assert_allclose([each['scores'][0] for each in record], [float(row['score']) for row in rows], atol=1e-6)
    assert len(list((tmp_path / 'my out').glob('*.jpg'))) == 3


def test_mixed_precision_scaled_rate_and_early_stop(data, tmp_path, capsys):
    status = load_tool('train').main([
        str(CONFIG), '--amp', '--auto-scale-lr', '--work-dir', str(tmp_path), '--eval', 'accuracy', '--cfg-options',
        'custom_hooks.1.patience=1', 'custom_hooks.1.min_delta=200.0', 'train_cfg.max_epochs=4'])
    assert status == 0
    output = capsys.readouterr().out
    assert 'did not improve in the last 1 records' in output and not (tmp_path / 'epoch_3.pth').exists()
    assert 'evaluating' in output and 'test  top1' in output
    rates = [each['lr'] for each in scalars_of(tmp_path) if 'loss' in each]
    assert max(rates) < 5e-3 / 2 * 1.01  # batch size 4, lr given for 8
    assert "dtype='bf16'" in next(tmp_path.glob('tiny_classifier.py')).read_text()


def test_two_ranks(data, tmp_path, capsys):
    """The batches of the ranks differ in size, and the final evaluation equals that on one rank."""
    result = train_ranks(CONFIG, '--work-dir', tmp_path, '--eval', 'accuracy', '--no-validate',
                       '--cfg-options', 'train_cfg.max_epochs=1', 'default_hooks.checkpoint.save_best=None')
    assert result.returncode == 0, result.stderr
    assert 'train 3/3  epoch 1/1' in result.stdout and result.stdout.count('test  top1') == 1
    assert load_tool('test').main([str(CONFIG), str(tmp_path / 'epoch_1.pth'), '--work-dir', str(tmp_path / 'one'),
                                   '--eval', 'accuracy']) == 0
    found = [re.search(r'test  top1 [\d.]+  top2 [\d.]+', text)[0] for text in (result.stdout, capsys.readouterr().out)]
    assert found[0] == found[1]
