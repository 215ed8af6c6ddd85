"""Pages about drawn predictions, without a model."""

import json

import numpy as np
import pytest
from mmengine.config import Config

from tests.end_to_end.tiny_classes import CONFIG as CLASSIFIER
from tests.end_to_end.tiny_classes import write_tiny_classes
from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from tests.visualization.html_report.pages import Page, chromium, open_in_browser
from vitdet_plugin import __version__
from vitdet_plugin.evaluation import classifier_report, detector_report
from vitdet_plugin.evaluation.box_errors import Boxes
from vitdet_plugin.evaluation.classifications import ClassifiedSplit
from vitdet_plugin.evaluation.detections import DetectedSplit, boxes_of_instances
from vitdet_plugin.visualization.html_report.report import Subject, build_page

HOSTILE = ['<script>alert("1")</script>', '"><img src=x onerror=alert(2)>', '$\\frac{_ 漢字 &amp; </style></title>']
PARTS = ['Training', 'Average precision', 'Precision and recall', 'Score threshold', 'Confusion matrix',
         'Types of errors', 'Worst images', 'Activation maps', 'Data set', 'Environment', 'Config']


def write_log(folder, losses=(4.0, 2.0, 1.0), metric='coco/bbox_mAP'):
    """Write the logs of a training run with one evaluation for each loss."""
    run = folder / '20260101_000000'
    (run / 'vis_data').mkdir(parents=True)
    lines = [line for step, loss in enumerate(losses, 1) for line in (
        dict(lr=0.1 / step, base_lr=0.1 / step, loss=loss, loss_cls=loss / 2, iter=step * 10, step=step * 10),
        {metric: 1 / loss, 'val_loss': loss + 1, 'step': step})]
    (run / 'vis_data' / 'scalars.json').write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    (run / 'a.log').write_text(
        '2026/01/01 10:00:00 - mmengine - INFO - \n---\nSystem environment:\n    Python: 3.11.7\n    CUDA available: '
        'False\n    PyTorch: 2.6.0\n    seed: 7\n---\n2026/01/01 10:00:01 - mmengine - INFO - Config:\nseed = 1\n'
        "2026/01/01 10:00:02 - mmengine - INFO - Command: vitdet train 'my set' --amp\n"
        '2026/01/01 11:02:03 - mmengine - INFO - done\n')
    return folder


@pytest.fixture
def detected(tmp_path, monkeypatch):
    """Return a function that gives the subject of a page: objects of the tiny set, shifted and with wrong classes."""
    data = write_tiny_set(tmp_path / 'data', images=5)
    monkeypatch.setenv('TINY_SET', str(data))

    def detected(with_masks=True, classes=('apple', 'lime', 'plum'), shift=2, **words):
        content = json.loads((data / 'coco.json').read_text())
        files, truth, found = [], [], []
        for image in content['images']:
            rows = [each for each in content['annotations'] if each['image_id'] == image['id']]
            instances = [dict(bbox=[x, y, x + w, y + h], bbox_label=each['category_id'] - 1, mask=each['segmentation'])
                         for each in rows for x, y, w, h in [each['bbox']]]
            true = boxes_of_instances(instances, (64, 64) if with_masks else None)
            labels = np.where(np.arange(len(true)) % 4 == 3, 0, true.labels)
            extra = np.array([[50, 50, 60, 60]])
            found.append(Boxes(np.concatenate([true.boxes + shift, extra]), np.append(labels, 1),
                               np.linspace(0.9, 0.4, len(true) + 1), None,
                               true.rles and [*true.rles, true.rles[0]]))
            truth.append(true)
            files.append(str(data / 'images' / image['file_name']))
        split = DetectedSplit('test', list(classes), files, truth, found)
        return Subject(Config.fromfile(CONFIG), write_log(tmp_path / 'run'), split,
                       detector_report.report_of_split(split, 0.3), **words)
    return detected


@pytest.mark.parametrize('with_masks', [True, False])
def test_a_page_about_a_detector(detected, tmp_path, with_masks):
    (tmp_path / 'problems.txt').write_text('a.txt:3: <b>no class</b>\n' * 250)
    text = build_page(detected(with_masks, maps=0, command="vitdet report 'my run'"))
    page = Page(text)
    assert page.titles == PARTS and len(text) < 6_000_000
    assert page.count['img'] == 2 * 5 and page.count['svg'] == 4 + (2 if with_masks else 1) + 1
    shown = page.sections
    assert ('mask AP' in shown['Average precision']) is with_masks and 'small objects' in shown['Average precision']
    assert 'Suggested threshold' in shown['Score threshold'] and 'missed' not in shown['Confusion matrix']
    assert shown['Confusion matrix'].count('\nbackground\n') == 2  # a row and a column
    for kind in ('classification', 'localization', 'both', 'duplicate', 'background', 'missed'):
        assert kind in shown['Types of errors']
    assert 'Left out: not requested' in shown['Activation maps']
    assert 'train = val = test' in shown['Data set'] and 'plum' in shown['Data set']
    assert '250 problems that vitdet init found' in shown['Data set'] and '… and 50 more' in shown['Data set']
    for fact in ("vitdet train 'my set' --amp", '1 h 2 min', '2.6.0', "vitdet report 'my run'", __version__):
        assert fact in shown['Environment']
    assert '\n7\n' in shown['Environment'] and 'SimpleFeaturePyramid' in shown['Config']
    assert 'validation' in shown['Training'] and 'Learning rate' in shown['Training']


def test_hostile_names_are_text(detected, tmp_path):
    subject = detected(classes=HOSTILE, maps=0)
    subject.split.files[0] = str(tmp_path / 'a<b>\udce4\'".jpg')  # does not exist either
    page = Page(build_page(subject))
    for name in HOSTILE:
        assert name in page.sections['Average precision']
    assert page.count['script'] == 1 and page.count['img'] == 2 * 4
    assert "a<b>?'\".jpg" in page.sections['Worst images'] and 'cannot be read' in page.sections['Worst images']


def test_what_is_missing_is_named(detected, tmp_path):
    subject = detected(maps=0)
    subject.work_dir, subject.split, subject.report = None, None, None
    subject.no_evaluation = 'config x has neither'
    subject.cfg.train_dataloader.dataset.ann_file = 'other.json'
    page = Page(build_page(subject))
    assert page.titles == ['Training', 'Evaluation', 'Data set', 'Environment', 'Config']
    assert 'Left out: the checkpoint is in no folder' in page.sections['Training']
    assert 'Left out: config x has neither' in page.sections['Evaluation']
    assert 'train is left out: ' in page.sections['Data set'] and 'other.json' in page.sections['Data set']
    assert 'there is no log file' in page.sections['Environment']
    (tmp_path / 'empty').mkdir()
    subject.work_dir = tmp_path / 'empty'
    assert 'scalars.json not found' in Page(build_page(subject)).sections['Training']


def test_nothing_is_found_in_any_image(detected):
    subject = detected(maps=0)
    none = Boxes(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    subject.split.found = [none] * len(subject.split.files)
    subject.report = detector_report.report_of_split(subject.split)
    page = Page(build_page(subject))
    assert 'Left out: no box is matched' in page.sections['Score threshold']
    assert '0 predicted' in page.sections['Worst images']


def test_the_size_of_a_page_is_limited(detected, monkeypatch):
    monkeypatch.setattr('vitdet_plugin.visualization.html_report.report._IMAGE_BYTES', 60_000)
    page = Page(build_page(detected(maps=0)))
    assert 'to limit the size' in page.sections['Worst images'] and page.count.get('img', 0) < 10


@pytest.mark.parametrize('classes', [3, 40])
def test_a_page_about_a_classifier(tmp_path, monkeypatch, classes):
    data = write_tiny_classes(tmp_path / 'data', train=3, val=2)
    monkeypatch.setenv('TINY_CLASSES', str(data))
    files = [str(path) for path in sorted((data / 'val').rglob('*.png'))]
    names = [*HOSTILE, *map(str, range(3, classes))]
    scores = np.full((6, classes), 0.1 / classes)
    scores[range(6), [0, 0, 1, 2, 2, 2]] += 0.9
    split = ClassifiedSplit('test', names, files, np.array([0, 0, 1, 1, 2, 2]), scores)
    subject = Subject(Config.fromfile(CLASSIFIER), write_log(tmp_path / 'run', metric='accuracy/top1'), split,
                      classifier_report.report_of_split(split), maps=0)
    page = Page(build_page(subject))
    assert page.titles == ['Training', 'Accuracy by class', 'Confusion matrix', 'Calibration', 'Worst images',
                           'Activation maps', 'Data set', 'Environment', 'Config']
    assert page.count['script'] == 1 and page.count['img'] == 1
    assert 'The 1 most confident of 1 mistakes' in page.sections['Worst images']
    assert ('the most frequent confusions' in page.sections['Confusion matrix']) is (classes == 40)
    assert 'Expected calibration error' in page.sections['Calibration']
    assert 'plum-tree' in page.sections['Data set'] and '0.833' in page.texts


def test_facts_count_every_image_once(detected):
    subject = detected(maps=0)
    inner = subject.cfg.train_dataloader.dataset
    other = {**inner, 'metainfo': dict(classes=('apple', 'lime', 'plum'))}
    joined = dict(type='ConcatDataset', datasets=[inner, other])
    subject.cfg.train_dataloader.dataset = dict(type='RepeatDataset', times=3, dataset=joined)
    shown = Page(build_page(subject)).sections['Data set'].split('\n')
    assert shown[shown.index('images'):][:3] == ['images', '10', '5']  # train; val = test


def test_charts_of_losses_that_are_not_finite(detected, tmp_path):
    subject = detected(maps=0)
    subject.work_dir = write_log(tmp_path / 'diverged', (float('nan'), float('inf')))
    assert 'No finite values.' in Page(build_page(subject)).sections['Training']


@pytest.mark.skipif(chromium() is None, reason='no Chromium is installed')
def test_a_page_in_a_browser(detected, tmp_path):
    text = build_page(detected(classes=HOSTILE, maps=0))
    title, console = open_in_browser(text, tmp_path)
    assert title.startswith('10 of 10 images, sorted ') and title.endswith(', fits')
    numbers = [float(word) for word in title.partition('sorted ')[2].partition(',')[0].split()]
    assert numbers == sorted(numbers, reverse=True) and console == []
