"""``vitdet predict`` with a work directory: formats, inputs, interruptions."""

import csv
import io
import json
import shutil
import signal
import sys

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from tests.prediction.conftest import CLASSES, detector, images, run_folder  # noqa: F401  (fixtures)
from vitdet_plugin.cli import predict
from vitdet_plugin.prediction.stream import Stream


def test_a_work_directory_and_several_formats(run_folder, images, tmp_path, capsys):  # noqa: F811
    status = predict.main([str(run_folder), str(images), '--out', str(tmp_path), '--format', 'coco,yolo', '--format',
                           'labelme', '--device', 'cpu', '--score-thr', '0', '--batch', '2'])
    assert status == 0
    names = {str(path.relative_to(tmp_path).with_suffix('')) for path in tmp_path.rglob('*.jpg')}
    assert names == {'set/images/001', 'set/images/002', 'set/images/003', 'x/wide', 'y/wide'}
    for folder, suffix in (('labels', '.txt'), ('labelme', '.json')):
        assert {str(path.relative_to(tmp_path / folder)) for path in (tmp_path / folder).rglob('*.*')} == {
            name + suffix for name in names}
    printed = capsys.readouterr().out.splitlines()
    results = COCO(str(tmp_path / 'coco_images.json')).loadRes(str(tmp_path / 'coco_results.json'))
    assert len(results.getAnnIds()) > 5 and [each['name'] for each in results.dataset['categories']] == list(CLASSES)
    assert printed[-1] == (
        f'5 images in {tmp_path}, boxes and masks in {tmp_path}/coco_results.json, {tmp_path}/labels and '
        f'{tmp_path}/labelme')


def test_equal_names_in_different_folders_do_not_overwrite_each_other(run_folder, images, tmp_path):  # noqa: F811
    assert predict.main([str(run_folder / 'best_coco_bbox_mAP_iter_2.pth'), str(images / 'x/wide.png'),
                         str(images / 'y'), '--out', str(tmp_path), '--format', 'yolo', '--device', 'cpu']) == 0
    assert sorted(path.name for path in tmp_path.rglob('wide*')) == ['wide.jpg', 'wide.txt', 'wide_2.jpg', 'wide_2.txt']


def test_a_list_on_standard_input(run_folder, images, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(sys, 'stdin', io.StringIO(f'{images}/x/wide.png\n{images}/none.png\n{images}/y\n'))
    assert predict.main([str(run_folder), '-', '--out', str(tmp_path), '--format', 'jsonl', '--no-draw', '--device',
                         'cpu', '--half']) == 1
    records = [json.loads(line) for line in (tmp_path / 'predictions.jsonl').read_text().splitlines()]
    assert [record['path'] for record in records] == [f'{images}/x/wide.png', f'{images}/y/wide.png']
    errors = capsys.readouterr().err.splitlines()
    assert f'left out: {images}/none.png does not exist; give an image or a folder of images' in errors
    assert errors[-1] == '1 of 3 images were left out'
    assert [path.name for path in tmp_path.iterdir()] == ['predictions.jsonl']


@pytest.mark.parametrize('number, word', [(signal.SIGTERM, 'SIGTERM'), (signal.SIGINT, 'Ctrl-C')])
def test_an_interruption_keeps_what_is_done(run_folder, images, tmp_path, monkeypatch, capsys, request,  # noqa: F811
                                            number, word):
    step, steps = Stream._step, []

    def interrupted(self, item):
        steps.append(item)
        if len(steps) == 4:
            signal.raise_signal(number)
        return step(self, item)

    monkeypatch.setattr(Stream, '_step', interrupted)
    inherited = signal.signal(number, signal.default_int_handler)  # background jobs of a shell ignore Ctrl-C
    request.addfinalizer(lambda: signal.signal(number, inherited))
    before = signal.getsignal(number)
    status = predict.main([str(run_folder), str(images), '--out', str(tmp_path), '--format', 'coco,csv', '--device',
                           'cpu', '--batch', '1', '--score-thr', '0'])
    assert status == 128 + number and signal.getsignal(number) == before
    assert capsys.readouterr().err.splitlines()[-1] == (
        f'stopped by {word}; the results of 3 images are in {tmp_path}')
    assert len(json.loads((tmp_path / 'coco_images.json').read_text())['images']) == 3
    assert {each['image_id'] for each in json.loads((tmp_path / 'coco_results.json').read_text())} == {1, 2, 3}


@pytest.mark.parametrize('words, says', [
    (['--format', 'voc'], "format 'voc' is unknown; choose from coco"), (['--batch', '0'], '--batch 0: give a number'),
    (['--batch', 'many'], '--batch many'), (['--half=fp8'], '--half fp8: choose from'), (['--tile', '3'], 'tile=3'),
    (['--tile', '64', '--overlap', '2'], 'overlap=2: give a part')])
def test_a_wrong_option_is_one_line(run_folder, images, tmp_path, capsys, words, says):  # noqa: F811
    assert predict.main([str(run_folder), str(images), '--out', str(tmp_path / 'out'), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ') and says in error and error.count('\n') == 1 and not (tmp_path / 'out').exists()


def test_folders_that_are_no_models_are_one_line(run_folder, images, tmp_path, capsys):  # noqa: F811
    assert predict.main([str(tmp_path), str(images)]) == 2
    assert f'error: {tmp_path} holds no checkpoint' in capsys.readouterr().err
    shutil.copy(run_folder / 'best_coco_bbox_mAP_iter_2.pth', tmp_path)
    assert predict.main([str(tmp_path), str(images)]) == 2
    assert 'holds checkpoints but no config' in capsys.readouterr().err
    for model, says in (('vitdet_demo', 'is a config; give a checkpoint'), ('none', 'does not exist; give a work dir')):
        assert predict.main([model, str(images)]) == 2
        assert capsys.readouterr().err.startswith(f'error: {model} {says}')


def test_tiles_find_an_object_in_a_corner_of_a_large_image(run_folder, images, tmp_path):  # noqa: F811
    small = cv2.imread(str(images / 'set/images/001.jpg'))
    cv2.imwrite(str(tmp_path / 'large.png'), np.tile(small, (2, 3, 1)))
    assert predict.main([str(run_folder), str(tmp_path / 'large.png'), '--tile', '64', '--overlap', '0.25', '--format',
                         'csv', '--score-thr', '0', '--out', str(tmp_path / 'out'), '--device', 'cpu']) == 0
    with open(tmp_path / 'out/predictions.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {(row['width'], row['height']) for row in rows} == {('192', '128')}
    assert max(float(row['xmax']) for row in rows) > 128


def test_a_second_run_names_what_it_did_not_replace(run_folder, images, tmp_path, capsys):  # noqa: F811
    out = tmp_path / 'out'
    words = ['--out', str(out), '--device', 'cpu']
    assert predict.main([str(run_folder), str(images / 'x'), str(images / 'y'), *words, '--format', 'yolo']) == 0
    assert 'earlier run' not in capsys.readouterr().err
    assert predict.main([str(run_folder), str(images / 'x'), str(out), *words, '--format', 'coco']) == 0
    assert [line for line in capsys.readouterr().err.splitlines() if 'earlier run' in line] == [
        f'warning: 2 files that an earlier run has written to {out} are not predicted',
        f'warning: {out} also holds 4 files of an earlier run (classes.txt, labels/wide.txt, labels/wide_2.txt …): '
        'delete what is no longer needed, or give another output folder']


@pytest.mark.parametrize('format, kept', [('json', 'wide.jpg'), ('yolo', 'labels/wide.txt'), ('yolo', 'classes.txt'),
                                          ('labelme', 'labelme/wide.json')])
def test_files_in_the_output_folder_are_kept(run_folder, images, tmp_path, capsys, format, kept):  # noqa: F811
    """Such as the images that are predicted, and their labels."""
    (tmp_path / kept).parent.mkdir(exist_ok=True)
    (tmp_path / kept).write_text('mine')
    assert predict.main([str(run_folder), str(images / 'x'), '--out', str(tmp_path), '--device', 'cpu', '--format',
                         format]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f'error: {tmp_path / kept} exists and was not written by an earlier run, so it is not replaced; choose another '
        'output folder')
    assert (tmp_path / kept).read_text() == 'mine'
