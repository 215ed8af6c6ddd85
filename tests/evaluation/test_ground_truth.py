"""Metrics are fitted to the data set: other files, subsets of the images, missing masks, models without masks."""

import contextlib
import io
import json
from types import SimpleNamespace

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric

from tests.end_to_end.tiny_set import CLASSES, CONFIG, write_tiny_set
from vitdet_plugin.api import test
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.coco_metric import FastCocoMetric
from vitdet_plugin.evaluation.evaluated_files import EvaluatedFilesHook
from vitdet_plugin.evaluation.ground_truth import fit_metric


@pytest.fixture
def folder(tmp_path):
    return write_tiny_set(tmp_path / 'set', images=4)


def change(folder, name='other.json', **edits):
    """Write a copy of the annotations after the functions ``edits`` have changed the entries of their lists."""
    content = json.loads((folder / 'coco.json').read_text())
    for key, edit in edits.items():
        for index, each in enumerate(content[key]):
            edit(index, each)
    (folder / name).write_text(json.dumps(content))
    return str(folder / name)


def dataset_and_metric(folder, ann_file=None, metric=('bbox', 'segm'), kind=CocoMetric, **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = CocoDataset(ann_file='coco.json', data_root=str(folder), data_prefix=dict(img='images'),
                              metainfo=dict(classes=CLASSES), test_mode=True, **kwargs)
        return dataset, kind(ann_file=ann_file or str(folder / 'coco.json'), metric=list(metric))


def test_the_file_of_the_data_set_passes(folder):
    dataset, metric = dataset_and_metric(folder)
    assert fit_metric(metric, dataset) == [] and metric.metrics == ['bbox', 'segm']
    assert fit_metric(SimpleNamespace(), dataset) == []


@pytest.mark.parametrize('edits, says', [
    (dict(images=lambda i, e: e.update(id=e['id'] + 1), annotations=lambda i, e: e.update(image_id=e['image_id'] + 1)),
     r'4 of 4 differ: id 1 is 001.jpg and absent'),
    (dict(images=lambda i, e: e.update(file_name=f'{4 - i:03}.jpg')), r'4 of 4 differ: id 1 is 001.jpg and 004.jpg'),
    (dict(categories=lambda i, e: e.update(name=e['name'].title())), r"no category \['apple', 'lime', 'plum'\]")])
def test_another_file_is_refused_with_both_names(folder, edits, says):
    path = change(folder, **edits)
    with pytest.raises(UserError, match=says) as caught:
        fit_metric(*reversed(dataset_and_metric(folder, path)), path)
    assert path in str(caught.value) and str(folder / 'coco.json') in str(caught.value)


def test_other_category_ids_and_folders_of_images_pass(folder):
    path = change(folder, images=lambda i, e: e.update(file_name=f'val/{e["file_name"]}'),
                  categories=lambda i, e: e.update(id=e['id'] + 10),
                  annotations=lambda i, e: e.update(category_id=e['category_id'] + 10))
    dataset, metric = dataset_and_metric(folder, path)
    assert fit_metric(metric, dataset) == []


def test_files_of_equal_names_in_two_folders(folder):
    change(folder, 'coco.json', images=lambda i, e: e.update(file_name=f'{i % 2}/a.jpg' if i < 2 else e['file_name']))
    assert fit_metric(*reversed(dataset_and_metric(folder))) == []
    path = change(folder, images=lambda i, e: e.update(file_name=f'{1 - i % 2}/a.jpg' if i < 2 else e['file_name']))
    with pytest.raises(UserError, match='2 of 4 differ: id 1 is a.jpg and 1/a.jpg'):
        fit_metric(*reversed(dataset_and_metric(folder, path)), path)


@pytest.mark.parametrize('kind', [CocoMetric, FastCocoMetric])
def test_a_part_of_the_images_is_evaluated_alone(folder, kind):
    dataset, metric = dataset_and_metric(folder, indices=[0, 2], kind=kind, metric=['bbox'])
    line, = fit_metric(metric, dataset)
    assert line.startswith('2 of the 4 images of ') and metric.img_ids == [1, 3]
    metric.dataset_meta = dataset.metainfo
    results = []
    for index in range(2):
        info = dataset.get_data_info(index)
        results.append((dict(img_id=info['img_id'], width=64, height=64), dict(
            img_id=info['img_id'], bboxes=torch.tensor([each['bbox'] for each in info['instances']]).numpy(),
            scores=torch.ones(len(info['instances'])).numpy(), labels=[each['bbox_label'] for each in
                                                                       info['instances']])))
    with contextlib.redirect_stdout(io.StringIO()):
        assert metric.compute_metrics(results)['bbox_mAP'] == 1


def test_missing_masks(folder):
    none = change(folder, 'none.json', annotations=lambda i, e: e.update(segmentation=[]))
    some = change(folder, 'some.json', annotations=lambda i, e: i or e.update(segmentation=[]))
    dataset, metric = dataset_and_metric(folder, none)
    assert fit_metric(metric, dataset, none) == [f'{none} has no masks: segm is left out, bbox is evaluated']
    assert metric.metrics == ['bbox']
    with pytest.raises(UserError, match='has no masks, so segm cannot be evaluated'):
        fit_metric(*reversed(dataset_and_metric(folder, none, ['segm'])))
    count = len(json.loads((folder / 'coco.json').read_text())['annotations'])
    dataset, metric = dataset_and_metric(folder, some)
    assert fit_metric(metric, dataset, some) == [
        f'1 of the {count} objects of {some} have no mask: segm leaves them out']
    dataset, metric = dataset_and_metric(folder, some)
    metric._coco_api.dataset.pop('annotations')
    assert 'has no annotated objects' in fit_metric(metric, dataset)[0]


def test_predictions_without_masks_stop_after_the_first_batch(folder):
    _, metric = dataset_and_metric(folder)
    runner = SimpleNamespace(test_loop=SimpleNamespace(evaluator=SimpleNamespace(metrics=[metric])))
    sample = SimpleNamespace(pred_instances=dict(bboxes=1))
    with pytest.raises(UserError, match='the model predicts no masks, so segm cannot be evaluated; use --eval bbox'):
        EvaluatedFilesHook().after_test_iter(runner, 0, outputs=[sample])
    EvaluatedFilesHook().after_test_iter(runner, 0, outputs=[SimpleNamespace(pred_instances=dict(masks=1))])
    metric.metrics = ['bbox']
    EvaluatedFilesHook().after_test_iter(runner, 0, outputs=[sample])


def test_training_and_validation_have_the_same_classes():
    train, val = (SimpleNamespace(evaluator=SimpleNamespace(metrics=[]), dataloader=SimpleNamespace(
        dataset=SimpleNamespace(metainfo=dict(classes=names)))) for names in ('ab', 'ba'))
    with pytest.raises(UserError, match=r"val: \['b', 'a'\]; train: \['a', 'b'\]"):
        EvaluatedFilesHook().before_train(SimpleNamespace(_train_loop=train, _val_loop=val, cfg={}))


def test_a_test_without_masks_reports_boxes_alone(folder, tmp_path, monkeypatch, capsys):
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope
    init_default_scope('mmdet')
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(CONFIG).model).state_dict()), tmp_path / 'w.pth')
    monkeypatch.setenv('TINY_SET', str(folder))
    path = change(folder, 'none.json', annotations=lambda i, e: e.update(segmentation=[]))
    options = dict(work_dir=tmp_path / 'work', skip_preflight=True)
    metrics = test(CONFIG, tmp_path / 'w.pth', cfg_options=[
        'test_dataloader.dataset.ann_file=none.json', f'test_evaluator.ann_file={path}'], **options)
    assert 'coco/bbox_mAP' in metrics and not any('segm' in name for name in metrics)
    assert f'warning: {path} has no masks: segm is left out, bbox is evaluated' in capsys.readouterr().out
    path = change(folder, images=lambda i, e: e.update(id=e['id'] + 1))
    with pytest.raises(UserError, match='other.json, which has other images or image ids'):
        test(CONFIG, tmp_path / 'w.pth', cfg_options=[f'test_evaluator.ann_file={path}'], **options)
