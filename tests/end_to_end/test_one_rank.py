"""Train, resume and evaluate a detector on one rank; most tools run in the process of the test."""

import json
import pickle
import re

import pytest
import torch

from tests.end_to_end.tiny_set import CONFIG, load_tool, run_tool


@pytest.fixture
def data(tiny_set, monkeypatch):
    monkeypatch.setenv('TINY_SET', str(tiny_set))
    return tiny_set


@pytest.fixture(scope='module')
def trained(tiny_set, tmp_path_factory):
    """Return the work directory and the output of a train command of two epochs that runs in another folder."""
    work_dir = tmp_path_factory.mktemp('work') / 'run'
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TINY_SET', str(tiny_set))
        result = run_tool('train.py', CONFIG, '--work_dir', work_dir, '--seed', 3, cwd=tiny_set)
    assert result.returncode == 0, result.stderr
    return work_dir, result.stdout


def scalars_of(work_dir):
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_training_writes_checkpoints_scalars_and_readable_lines(trained):
    work_dir, output = trained
    assert (work_dir / 'epoch_2.pth').is_file()
    losses = [each for each in scalars_of(work_dir) if 'loss' in each]
    assert [each['step'] for each in losses] == [2, 4, 6, 8]
    assert all(each['memory'] > 0 for each in losses)
    assert re.search(r'train 8/8  epoch 2/2  eta 0:\d\d:\d\d .* lr 1.00e-03  mem .*loss [\d.]+ \(.*mask', output)
    assert output.count('val @ epoch') == 2
    assert 'System environment' not in output and 'creating index' not in output
    log = next(work_dir.glob('*/*.log')).read_text()
    assert 'System environment' in log and 'train 8/8' in log and 'Average Precision' in log


def test_resume_continues_from_the_newest_checkpoint(trained, data, capsys):
    work_dir, _ = trained
    status = load_tool('train').main([str(CONFIG), '--work-dir', str(work_dir), '--resume', '--cfg-options',
                                      'train_cfg.max_epochs=3', 'val_cfg=None', 'val_dataloader=None',
                                      'val_evaluator=None'])
    assert status == 0
    steps = [each['step'] for each in scalars_of(work_dir) if 'loss' in each]
    assert steps == [2, 4, 6, 8, 10, 12]
    before, after = (torch.load(work_dir / f'epoch_{epoch}.pth', weights_only=False) for epoch in (2, 3))
    assert after['meta']['iter'] == 12 and before['meta']['iter'] == 8
    moments = [next(iter(each['optimizer']['state'].values()))['step'] for each in (before, after)]
    assert [int(value) for value in moments] == [8, 12]  # the optimizer state is resumed


def test_a_test_of_a_resumed_training_keeps_its_config(trained, data, capsys):
    """The config in the work directory stands for the model: options of a test must not reach predictions."""
    work_dir, _ = trained
    config = work_dir / CONFIG.name
    config.write_text(before := config.read_text().replace('resume = False', 'resume = True'))
    assert 'resume = True' in before
    assert load_tool('test').main([str(work_dir), '--tta', '--cfg-options', 'model.test_cfg.rcnn.max_per_img=1']) == 0
    assert 'bbox_mAP' in capsys.readouterr().out
    assert config.read_text() == before and [*work_dir.glob('*.py')] == [config]


def test_evaluation_writes_predictions_and_images(trained, data, tmp_path, capsys):
    work_dir, _ = trained
    status = load_tool('test').main([str(CONFIG), str(work_dir / 'epoch_2.pth'), '--eval', 'bbox', '--work-dir',
                                     str(tmp_path / 'w'), '--out', str(tmp_path / 'found.json'), '--show-dir',
                                     str(tmp_path / 'images'), '--show-max', '3', '--show-score-thr', '0.05'])
    assert status == 0
    output = capsys.readouterr().out
    assert 'bbox_mAP' in output and 'segm_mAP' not in output
    found = json.loads((tmp_path / 'found.json').read_text())
    assert {'image_id', 'category_id', 'bbox', 'score', 'segmentation'} <= set(found[0])
    assert len(list((tmp_path / 'images').glob('*.jpg'))) == 3


def test_flip_augmentation_and_pickled_predictions(trained, data, tmp_path, capsys):
    work_dir, _ = trained
    status = load_tool('test').main([str(CONFIG), str(work_dir / 'epoch_2.pth'), '--tta', '--work-dir',
                                     str(tmp_path / 'w'), '--out', str(tmp_path / 'found.pkl')])
    assert status == 0
    assert 'segm_mAP' in capsys.readouterr().out
    found = pickle.loads((tmp_path / 'found.pkl').read_bytes())
    assert len(found) == 7 and len(found[0]['pred_instances']['bboxes']) == len(found[0]['pred_instances']['masks']) > 0


def test_mixed_precision_scaled_rate_and_evaluation_at_the_end(data, tmp_path, capsys):
    status = load_tool('train').main(['--amp', str(CONFIG), '--work-dir', str(tmp_path), '--auto-scale-lr', '--eval',
                                      'bbox', '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1'])
    assert status == 0
    output = capsys.readouterr().out
    assert 'test  bbox_mAP' in output
    last = [each for each in scalars_of(tmp_path) if 'loss' in each][-1]
    assert last['lr'] == pytest.approx(1e-3 * 2 / 4)  # batch size 2, lr given for 4
    config = next(tmp_path.glob('tiny_vitdet.py')).read_text()
    assert "type='AutocastOptimWrapper'" in config and "dtype='bf16'" in config and 'max_norm=10.0' in config
