import copy
import json

import pytest

from tests.faults.annotations import FAULTS
from vitdet_plugin.datasets.checks.annotations import check_annotations, dropped_share
from vitdet_plugin.datasets.checks.detection_data import check_dataset
from vitdet_plugin.datasets.checks.whole_set import check_coco_set


@pytest.fixture(scope='module')
def content(tiny_set):
    return json.loads((tiny_set / 'coco.json').read_text())


MASKS = [dict(type='LoadAnnotations', with_mask=True)]


def check(ann_file, tiny_set, pipeline=(), is_training=True):
    return check_dataset('train', dict(type='CocoDataset', ann_file=str(ann_file), pipeline=pipeline, data_prefix=dict(
        img=str(tiny_set / 'images')), metainfo=dict(classes=('apple', 'lime', 'plum'))), is_training)


def test_a_valid_file(content):
    assert check_annotations(content) == []


@pytest.mark.parametrize('name', FAULTS)
def test_each_fault_is_found_once_and_named(content, name):
    break_content, level, text = FAULTS[name]
    broken = copy.deepcopy(content)
    break_content(broken)
    problems = [problem for problem in check_annotations(broken) if problem.level == level and text in problem.kind]
    assert len(problems) == 1 and len(problems[0].where) >= 1
    assert any(character.isdigit() for character in str(problems[0]))  # an id or a number


def test_images_without_objects_and_with_crowds_only_are_notes(content):
    broken = copy.deepcopy(content)
    broken['annotations'] = [each for each in broken['annotations'] if each['image_id'] != 1]
    for each in broken['annotations']:
        each['iscrowd'] = int(each['image_id'] == 2)
    names = {image['id']: image['file_name'] for image in broken['images']}
    assert {(each.level, str(each)) for each in check_annotations(broken) if each.level == 'note'} == {
        ('note', f'images without usable annotations: image 1: {names[1]}'),
        ('note', f'images with crowd regions only: image 2: {names[2]}')}


def test_masks_are_required_only_where_they_are_loaded(content, tiny_set, tmp_path):
    broken = copy.deepcopy(content)
    broken['annotations'][0]['segmentation'] = []
    (tmp_path / 'coco.json').write_text(json.dumps(broken))
    cfg = dict(type='CocoDataset', ann_file=str(tmp_path / 'coco.json'), data_prefix=dict(img=str(tiny_set / 'images')),
               metainfo=dict(classes=('apple', 'lime', 'plum')))
    assert check_dataset('train', cfg, True) == []
    (found,) = check_dataset('train', {**cfg, 'pipeline': [dict(type='LoadAnnotations', with_mask=True)]}, True)
    assert found.level == 'error' and '1 of 10 annotations will be left out' in found.text
    assert 'annotations without a mask' in found.text


@pytest.mark.parametrize('many, level', [(1, 'error'), (200, 'warning')])
def test_more_than_one_percent_of_skipped_annotations_is_an_error(content, tiny_set, tmp_path, many, level):
    broken = copy.deepcopy(content)
    for number in range(many):
        broken['annotations'].append({**broken['annotations'][0], 'id': 1000 + number})
    broken['annotations'][0]['category_id'] = 9
    (tmp_path / 'coco.json').write_text(json.dumps(broken))
    (found,) = check(tmp_path / 'coco.json', tiny_set)
    assert found.level == level and 'annotation 1 of image 1' in found.text and '\n' not in found.text
    assert dropped_share(check_annotations(broken), len(broken['annotations']))[0] == 1


def test_file_names_must_stay_in_the_image_folder(content, tiny_set, tmp_path):
    for name in ('../images/001.jpg', '/etc/passwd', 'a/../../x.jpg'):
        broken = copy.deepcopy(content)
        broken['images'][0]['file_name'] = name
        (tmp_path / 'coco.json').write_text(json.dumps(broken))
        (found,) = check(tmp_path / 'coco.json', tiny_set)
        assert found.level == 'error' and 'point outside the image folder' in found.text and name in found.text


@pytest.mark.parametrize('changes, pipeline, text', [
    (dict(iscrowd=1), [], 'all 10 usable annotations are crowd regions'),
    (dict(iscrowd='1'), [], 'all 10 usable annotations are crowd regions'),
    (dict(segmentation=[[]]), MASKS, 'none of the 10 annotations is an object with a usable mask'),
    (dict(segmentation=[[1, 1, 9, 9]]), MASKS, 'none of the 10 annotations is an object with a usable mask'),
    (dict(segmentation=None), MASKS, 'none of the 10 annotations is an object with a usable mask')])
def test_a_set_without_objects_to_train_on_is_an_error(content, tiny_set, tmp_path, changes, pipeline, text):
    broken = copy.deepcopy(content)
    for annotation in broken['annotations']:
        annotation.update(changes)
    (tmp_path / 'coco.json').write_text(json.dumps(broken))
    (found,) = check(tmp_path / 'coco.json', tiny_set, pipeline)
    assert found.level == 'error' and text in found.text and 'annotation 1 of image 1' in found.text
    assert '\n' not in found.text
    (found,) = check(tmp_path / 'coco.json', tiny_set, pipeline, is_training=False)
    assert (found.level == 'warning') == ('iscrowd' in changes)
    rows = check_coco_set(str(tmp_path / 'coco.json'), str(tiny_set / 'images'))
    assert any(level == 'error' for level, _, _ in rows) == (changes != dict(segmentation=None))


def test_crowds_and_lost_masks_together_leave_nothing(content, tiny_set, tmp_path):
    broken = copy.deepcopy(content)
    for number, annotation in enumerate(broken['annotations']):
        annotation.update(dict(iscrowd=1) if number % 2 else dict(segmentation=[[]]))
    (tmp_path / 'coco.json').write_text(json.dumps(broken))
    (found,) = check(tmp_path / 'coco.json', tiny_set, MASKS)
    assert found.level == 'error' and 'none of the 10 annotations is an object with a usable mask' in found.text
    (found,) = check(tmp_path / 'coco.json', tiny_set)  # boxes only
    assert found.level == 'warning' and '5 of 10 annotations are crowd regions' in found.text


@pytest.mark.parametrize('changes', [dict(iscrowd='0'), dict(iscrowd=False), dict(id=0), dict(area=None),
                                     dict(image_id='1'), dict(category_id=2.0)])
def test_files_of_other_tools_are_accepted_as_training_reads_them(content, tiny_set, tmp_path, changes):
    changed = copy.deepcopy(content)
    changed['annotations'][0].update(changes)
    changed['categories'].append(dict(id=9, name='root', supercategory='none'))  # without annotations
    (tmp_path / 'coco.json').write_text(json.dumps(changed))
    assert check(tmp_path / 'coco.json', tiny_set, MASKS) == []


def test_a_repeated_category_is_ignored_with_one_line_or_an_error(content, tiny_set, tmp_path):
    changed = copy.deepcopy(content)
    changed['categories'].insert(0, dict(id=0, name='apple', supercategory='none'))
    (tmp_path / 'coco.json').write_text(json.dumps(changed))
    (found,) = check(tmp_path / 'coco.json', tiny_set)
    assert found.level == 'warning' and "ignored: 'apple' (id 0)" in found.text
    changed['annotations'][0]['category_id'], changed['annotations'][1]['category_id'] = 0, 1
    (tmp_path / 'coco.json').write_text(json.dumps(changed))
    (found,) = check(tmp_path / 'coco.json', tiny_set)
    assert found.level == 'error' and "'apple' (ids 0, 1)" in found.text
