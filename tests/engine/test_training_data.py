"""A training that is resumed after its data has changed."""

import json
import shutil

import pytest
from mmengine.config import Config

from tests.faults.rig import STEPS, train_here, write_config
from vitdet_plugin.engine import training_data as module
from vitdet_plugin.engine.training_data import describe_batch_change, describe_change, fingerprint


def move_box(content):
    content['annotations'][0]['bbox'][0] += 1


def remove_image(content):
    gone = content['images'].pop()['id']
    content['annotations'] = [each for each in content['annotations'] if each['image_id'] != gone]


def test_a_changed_file_or_number_of_images_in_a_step_is_one_warning(tiny_set, tmp_path, capfd):
    data, lengths = shutil.copytree(tiny_set, tmp_path / 'set'), iter(range(2, 20, 2))

    def train(*cfg_options, change=None):
        if change is not None:
            content = json.loads((data / 'coco.json').read_text())
            change(content)
            (data / 'coco.json').write_text(json.dumps(content))
        length = next(lengths)
        train_here(write_config(tmp_path / 'c.py', data, STEPS.format(length)), tmp_path / 'work',
                   resume='auto' if length > 2 else False, cfg_options=cfg_options)
        return [line for line in capfd.readouterr().out.splitlines()
                if 'training data changed' in line or 'images in an optimizer step' in line]

    assert train() == train() == []
    for change in (move_box, remove_image):
        (line,) = train(change=change)
        assert f'since the checkpoint: {data}/coco.json; it continues' in line
    (line,) = train('train_dataloader.batch_size=1')  # and the last checkpoint has the new data
    assert '--resume: 2 images in an optimizer step then (batch 2, ranks 1), 1 images in an optimizer step now' in line
    assert train('train_dataloader.batch_size=1') == []


@pytest.mark.parametrize('then, now, expected', [
    ([2, 2, 1], [2, 1, 1], '4 images in an optimizer step then (batch 2, ranks 2), 2 images in an optimizer step now '
                           '(batch 2, ranks 1)'),
    ([2, 1, 1], [2, 1, 4], '2 images in an optimizer step then (batch 2, ranks 1), 8 images in an optimizer step now '
                           '(batch 2, ranks 1, accumulated 4)'),
    ([2, 2, 1], [2, 1, 2], ''), (None, [2, 1, 1], ''), ([2, 1, 1], None, '')])
def test_ranks_and_accumulated_steps_count(then, now, expected):
    assert describe_batch_change(dict(batch=then), dict(batch=now)) == expected
    assert describe_batch_change({}, dict(batch=now)) == ''  # a checkpoint of an earlier version


def config(*paths):
    return Config(dict(train_dataloader=dict(dataset=dict(
        type='ConcatDataset', datasets=[dict(data_root=str(path.parent), ann_file=path.name) for path in paths]))))


def test_files_may_move_but_not_change(tmp_path, monkeypatch):
    (tmp_path / 'moved').mkdir()
    first, second, moved = tmp_path / 'a.json', tmp_path / 'b.json', tmp_path / 'moved/a.json'
    first.write_bytes(bytes(1000))
    shutil.copy(first, moved)
    second.write_bytes(b'b')
    before = fingerprint(config(first, second, tmp_path / 'missing.json'), range(5))
    assert describe_change(before, fingerprint(config(second, moved), range(5))) == ''
    assert describe_change(before, fingerprint(config(second), range(4))) == '5 samples then, 4 now'
    moved.write_bytes(bytes(999) + b'1')
    assert describe_change(before, fingerprint(config(second, moved), range(5))) == str(moved)


def test_of_large_files_blocks_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, '_WHOLE', 300)
    monkeypatch.setattr(module, '_BLOCK', 100)
    path = tmp_path / 'a.json'
    path.write_bytes(bytes(1000))
    before = fingerprint(config(path), iter(()))
    assert before['samples'] is None
    for position, is_read in ((0, True), (999, True), (500, True), (200, False)):
        content = bytearray(1000)
        content[position] = 1
        path.write_bytes(content)
        assert bool(describe_change(before, fingerprint(config(path), iter(())))) == is_read
