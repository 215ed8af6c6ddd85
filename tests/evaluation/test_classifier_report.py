import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.end_to_end.tiny_set import load_tool
from tests.visualization.html_report.pages import Page
from tests.visualization.tiny_folder_classifier import write_classifier
from vitdet_plugin.cli.main import main
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.classifier_report import build_report


@settings(max_examples=30)
@given(seed=st.integers(0, 999), classes=st.integers(2, 8))
def test_values_match_their_definitions(seed, classes):
    random = np.random.default_rng(seed)
    truth, scores = random.integers(0, classes, 40), random.dirichlet(np.ones(classes), 40)
    report, predicted = build_report(truth, scores), scores.argmax(1)
    for label in range(classes):
        correct = ((truth == label) & (predicted == label)).sum()
        actual, positive = (truth == label).sum(), (predicted == label).sum()
        assert report.confusion[label, label] == correct and report.support[label] == actual
        assert report.precision[label] == pytest.approx(correct / positive if positive else 0)
        assert report.recall[label] == pytest.approx(correct / actual if actual else 0)
        assert report.f1[label] == pytest.approx(2 * correct / (positive + actual) if positive + actual else 0)
    assert report.top1 == pytest.approx((truth == predicted).mean())
    present = np.unique(truth)
    assert report.averages()['macro'][2] == pytest.approx(report.f1[present].mean())
    if classes > 5:
        ranks = (scores > scores[np.arange(40), truth][:, None]).sum(1)
        assert report.top5 == pytest.approx((ranks < 5).mean())
    assert len(report.mistakes) == (truth != predicted).sum()
    assert [each[3] for each in report.mistakes] == sorted((each[3] for each in report.mistakes), reverse=True)


def test_text_for_few_and_for_many_classes():
    few = build_report(np.array([0, 1, 1]), np.eye(2)[[0, 0, 1]], ['Fat Hen', 'Maize'], ['a', 'b', 'c'])
    assert few.mistakes == [('b', 'Maize', 'Fat Hen', 1.0)]
    assert 'top-1 0.6667' in str(few) and 'Maize    1 1' in str(few)
    many = build_report(np.array([0, 1, 1]), np.eye(40)[[0, 7, 7]])
    assert '2  1 predicted as 7' in str(many)
    json.dumps(many.as_dict())


def test_a_label_without_a_score_is_an_error():
    with pytest.raises(UserError, match='2 classes, but the dataset has 3'):
        build_report(np.array([2]), np.ones((1, 2)))


def test_command_agrees_with_mmpretrain(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'a set', per_class=3)
    config, weights = write_classifier(tmp_path, root)
    out = tmp_path / 'my report'
    command = load_tool('analysis/report').main
    assert command([config, weights, '--out', str(out), '--device', 'cpu', '--batch-size', '4']) == 0
    record = json.loads((out / 'report.json').read_text())
    confusion = np.array(record['confusion'])
    assert record['classes'] == list(CLASSES) and confusion.sum(1).tolist() == [3, 3, 3]
    from mmpretrain.evaluation import SingleLabelMetric
    truth = np.repeat(np.arange(3), confusion.sum(1))
    predicted = np.concatenate([np.repeat(np.arange(3), row) for row in confusion])
    theirs = SingleLabelMetric.calculate(predicted, truth, num_classes=3)[:3]
    for name, value in zip(('precision', 'recall', 'f1'), theirs):
        assert 100 * record['macro'][name] == pytest.approx(float(value), abs=1e-3)
    for name in ('confusion.png', 'classes.png', 'mistakes.jpg'):
        assert cv2.imread(str(out / name)).std() > 5
    assert 'macro-F1' in (out / 'report.txt').read_text()
    page = Page((out / 'report.html').read_text(encoding='utf-8'))
    assert 'Calibration' in page.titles and page.count['img'] == 8 + 9 - np.trace(confusion)  # 4 maps, and mistakes
    assert command([config, weights, '--split', 'val', '--out', str(out)]) == 2
    assert 'has no val_dataloader' in capsys.readouterr().err


def test_predictions_of_a_file_are_not_computed_again(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'set', per_class=2)
    config, weights = write_classifier(tmp_path, root)
    assert main(['test', config, weights, '--work-dir', str(tmp_path / 'w'), '--out', str(tmp_path / 'p.json')]) == 0
    records = []
    for words in ([], ['--results', str(tmp_path / 'p.json')]):
        assert main(['report', config, weights, '--out', str(tmp_path / 'out'), '--maps', '0', *words]) == 0
        records.append(json.loads((tmp_path / 'out' / 'report.json').read_text()))
    assert records[1]['checkpoint'] is None
    assert {**records[1], 'checkpoint': records[0]['checkpoint']} == records[0]
    for content, says in (({}, 'not a file of predictions'), (dict(classes=['a'], predictions=[]), 'has the classes a'),
                          (dict(classes=CLASSES, predictions=[]), 'has no prediction for'),
                          (dict(classes=CLASSES, predictions=[dict(file='a', scores=[1])]), 'not have 3 scores')):
        (tmp_path / 'p.json').write_text(json.dumps(content))
        assert main(['report', config, weights, '--out', str(tmp_path / 'x.html'), *words]) == 2
        assert says in capsys.readouterr().err


def test_classes_in_another_order_are_matched_by_name(tmp_path, capsys):
    root = write_class_folders(tmp_path / 'set', per_class=2)
    confusions = []
    for names in (CLASSES, CLASSES[::-1], ['x', 'y', 'z']):
        config, weights = write_classifier(tmp_path, root, classes=names)
        status = load_tool('analysis/report').main([config, weights, '--out', str(tmp_path / 'out'), '--maps', '0'])
        record = json.loads((tmp_path / 'out' / 'report.json').read_text())
        assert record['classes'] == list(CLASSES)
        confusions.append(np.array(record['confusion']))
    np.testing.assert_array_equal(confusions[1], confusions[0][:, ::-1])  # the same weights, other names
    output, error = capsys.readouterr()
    assert 'classes matched by name' in output
    assert status == 2 and 'its classes are not those of the data set' in error and "'x', 'y', 'z'" in error
