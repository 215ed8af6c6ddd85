"""``python -m vitdet_plugin.runtime`` on a folder of images."""

import csv
import json

import cv2
import pytest
from pycocotools.coco import COCO

from tests.runtime.small_files import noise, write_classifier, write_detector
from vitdet_plugin.runtime.__main__ import main

pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
pytest.importorskip('onnx', reason='the extra "onnx" is not installed')


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_detector('d.onnx', masks='boxes')
    write_classifier('c.onnx')
    for number in range(30):
        path = tmp_path / 'images' / f'{number % 3}' / f'{number:02}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), noise(30 + number % 2, 40, number))
    return tmp_path


def test_thirty_images(folder, capsys):
    assert main(['d.onnx', 'images', '--batch', '8', '--threads', '1', '--out', 'out/results.jsonl', '--draw']) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == 'images/0/00.jpg: 1 objects' and printed[-1].startswith('30 images, ')
    assert printed[-1].endswith('results in out/results.jsonl, images in out/results')
    records = [json.loads(line) for line in (folder / 'out/results.jsonl').read_text().splitlines()]
    assert len(records) == 30 and records[0]['names'] == ['b']
    assert (records[0]['width'], records[0]['height']) == (40, 30)
    assert [record['path'] for record in records] == sorted(record['path'] for record in records)
    drawn = sorted((folder / 'out/results').iterdir())
    assert len(drawn) == 30 and cv2.imread(str(drawn[0])).shape == (30, 40, 3)
    assert [path.name for path in (folder / 'out').iterdir() if path.is_file()] == ['results.jsonl']


def test_other_formats(folder, capsys):
    assert main(['d.onnx', 'images', '--out', 'r.json', '--batch', '4']) == 0
    coco = COCO('r.json')
    assert len(coco.imgs) == 30 == len(coco.anns) and coco.cats[2]['name'] == 'b'
    assert coco.annToMask(coco.anns[1]).sum() == coco.anns[1]['area'] > 0
    assert main(['d.onnx', 'images', '--out', 'r.csv']) == 0
    rows = list(csv.DictReader((folder / 'r.csv').open(encoding='utf-8')))
    assert len(rows) == 30 and rows[0]['name'] == 'b' and float(rows[0]['x2']) == 20
    assert main(['c.onnx', 'images', '--out', 'c.csv', '--draw']) == 0
    assert len(list(csv.DictReader((folder / 'c.csv').open()))) == 30 == len(list((folder / 'c').iterdir()))
    assert main(['c.onnx', 'images/0', '--top', '2', '--out', 'c.jsonl']) == 0
    assert len(json.loads((folder / 'c.jsonl').read_text().splitlines()[0])['names']) == 2
    assert main(['c.onnx', 'images/0', '--out', 'c.json']) == 2
    assert 'format coco is for detectors' in capsys.readouterr().err


def test_faults(folder, capsys):
    (folder / 'images/0/00.jpg').write_bytes(b'no image')
    assert main(['d.onnx', 'images/0']) == 1
    done = capsys.readouterr()
    assert done.err.startswith('left out: images/0/00.jpg cannot be read as an image') and done.out.count('\n') == 10
    before = (folder / 'results.jsonl').read_bytes()
    for words, says in ((['d.onnx', 'none'], 'none does not exist'), (['e.onnx', 'images'], 'e.onnx does not exist'),
                        (['d.onnx', 'images/0/00.jpg'], '00.jpg cannot be read as an image'),
                        (['d.onnx', 'images', '--format', 'voc'], '--format voc: choose from jsonl, coco, csv'),
                        (['d.onnx', 'images', '--out', 'images'], '--out images is a folder'),
                        (['d.onnx', 'images', '--score-thr', '2'], '--score-thr 2'),
                        (['d.onnx', 'images', '--batch', '0'], 'batch_size=0')):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith('error: ') and says in error and error.count('\n') == 1
    assert (folder / 'results.jsonl').read_bytes() == before
