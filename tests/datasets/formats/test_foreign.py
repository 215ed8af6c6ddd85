"""Annotations that no format reads are named in one line, and never taken for class folders."""

import json

import pytest

from tests.datasets.formats.reading import read, write, write_image
from vitdet_plugin.cli.main import main
from vitdet_plugin.datasets.formats import ForeignAnnotations, recognize
from vitdet_plugin.datasets.formats.tree import FileTree

LABELBOX = [{'External ID': 'a.jpg', 'Label': {'objects': [{'value': 'cat', 'bbox': {'top': 1, 'left': 2}}]}}]


@pytest.mark.parametrize(('path', 'text', 'words'), [
    ('annot/mpii_human_pose_v1_u12_1.mat', 'MATLAB 5.0', 'MPII Human Pose'), ('anno.mat', 'MATLAB 5.0', 'MATLAB file'),
    ('x.vott', '{"name": "x", "assets": {}}', 'export it as VoTT JSON'),
    ('export.ndjson', '{"data_row": {}}\n', 'JSON text in each line'),
    ('labelbox.json', json.dumps(LABELBOX), 'labelbox.json has annotations'),
    ('cats/a.json', '{"file": "x", "rects": [[1, 2, 3, 4]]}', 'cats/a.json has annotations'),
    ('cats/a.xml', '<page><box x="1"/></page>', 'cats/a.xml has annotations'),
    ('all.xml', '<?xml version="1.0"?><!-- of <annotation> --><paintings><painting><filename>cats/a.jpg</filename>'
     '<annotation x="1" left="True"/></painting></paintings>', 'all.xml has annotations'),
    ('boxes.txt', 'cats/a.jpg 10 20 30 40\ncats/b.jpg 1 2 3 4\n', 'boxes.txt has annotations'),
    ('boxes.txt', 'cats/a.jpg 10 20 30 40 cat\ncats/b.jpg 1 2 3 4 big dog\n', 'boxes.txt has annotations'),
    ('boxes.txt', 'cats/a.jpg cat 10 20 30 40\ncats/b.jpg dog 1 2 3 4 0.9\n', 'boxes.txt has annotations'),
    ('labels/a.txt', '10;20;30;40\n', 'labels/a.txt has annotations'),
    ('folds/1.txt', 'cats/a\n1\n41.9 25.1 1.2 20.5 30.7 1\n', 'folds/1.txt has annotations'),
    ('cats/gt/gt.txt', '1,1,10,20,30,40,1,1,0.8\n', 'frames of a video'), ('x.odgt', '{}', 'JSON text in each line'),
    ('Annotations.zip', 'PK', 'unpack it first')])
def test_they_are_named_with_what_to_do(tmp_path, capsys, path, text, words):
    for name in ('cats/a.jpg', 'cats/b.jpg', 'dogs/c.jpg'):
        write_image(tmp_path / name)
    write(tmp_path / path, text)
    with pytest.raises(ForeignAnnotations, match=words) as caught:
        recognize(FileTree(tmp_path))
    assert '\n' not in str(caught.value)
    assert any(advice in str(caught.value) for advice in ('export it as ', 'CSV file', 'unpack it first'))
    assert read(tmp_path, 'class-folders', 'class-folders').classes == ['cats', 'dogs']
    for command in ('init', 'check'):
        assert main([command, str(tmp_path)]) == 2
        assert words in capsys.readouterr().err


def test_a_table_with_a_row_for_each_image_of_a_folder(tmp_path):
    """The layout of a set of CT images, whose table has numbers in place of names, in a repository with figures."""
    for i in range(12):
        write_image(tmp_path / f'repo/Dataset/ct/{i:03}.png')
    rows = ''.join(f'{i},{i % 2}\n' for i in range(12))
    table = write(tmp_path / 'repo/Dataset/labels.csv', f'id, hemorrhage\n{rows}')
    message = r'labels.csv has about as many rows as its folder has images \(12\), .* columns image \(the file name\)'
    with pytest.raises(ForeignAnnotations, match=f'not a data set of a known format .*{message}'):
        recognize(FileTree(tmp_path / 'repo/Dataset'))
    write_image(tmp_path / 'repo/figures/a.png')
    with pytest.raises(ForeignAnnotations, match=f'repo: Dataset/{message}.*; --format class-folders takes'):
        recognize(FileTree(tmp_path / 'repo'))
    table.rename(tmp_path / 'repo/metadata.csv')  # of all images
    write_image(tmp_path / 'repo/figures/b.png')
    assert recognize(FileTree(tmp_path / 'repo'))[0].name == 'class-folders'


def test_rows_of_an_image_whose_name_continues(tmp_path):
    """The layout of DeepPCB."""
    for name in ('PCB/g1/0001_test.jpg', 'PCB/g1/0001_temp.jpg', 'figures/a.jpg'):
        write_image(tmp_path / name)
    write(tmp_path / 'PCB/g1_not/0001.txt', '10 20 30 40 2\n')
    with pytest.raises(ForeignAnnotations, match='g1_not/0001.txt has annotations of a form that is not known'):
        recognize(FileTree(tmp_path))


@pytest.mark.parametrize(('path', 'text'), [
    ('class_to_idx.json', '{"cats": 0, "dogs": 1}'), ('meta/train.txt', 'cats/a\ncats/b\n'),
    ('sizes.txt', 'cats 10 20 30 40\n'), ('labels.json', '{"cats": ["a.jpg", "b.jpg"]}'), ('features.npy', 'x'),
    ('images.zip', 'PK'), ('labels.txt', 'cats\ndogs\n'), ('meta/test.txt', 'cats/a\ncats/b\n'),
    ('README.md', 'points: [1, 2, 3, 4] of a.jpg'), ('cats/a.txt', 'a cat at 10 o clock\n')])
def test_other_files_next_to_class_folders_are_no_annotations(tmp_path, path, text):
    for name in ('cats/a.jpg', 'cats/b.jpg', 'dogs/c.jpg'):
        write_image(tmp_path / name)
    write(tmp_path / path, text)
    assert read(tmp_path, 'class-folders').classes == ['cats', 'dogs']


@pytest.mark.parametrize(('name', 'words'), [
    ('train.tfrecord', 'TFRecord'), ('images.tfrecord-00001-of-00010', 'TFRecord'), ('train-0.parquet', 'Hugging Face'),
    ('data.h5', 'file of arrays')])
def test_files_in_place_of_images(tmp_path, name, words):
    write(tmp_path / 'data' / name, 'x')
    with pytest.raises(ForeignAnnotations, match=f'not a data set of a known format .0 images.*data/{name}.*{words}'):
        recognize(FileTree(tmp_path / 'data'))
