import json
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mmengine.registry import DATASETS

from vitdet_plugin.config.dataset_config import leaf_datasets
from vitdet_plugin.datasets.checks import detection_data
from vitdet_plugin.datasets.checks.detection_data import check_dataset, compare_classes, summarize_coco
from vitdet_plugin.errors import UserError

CLASSES = ('apple', 'lime', 'plum')


@pytest.fixture
def folder(tiny_set, tmp_path):
    return shutil.copytree(tiny_set, tmp_path / 'set')


def config(folder, **changes):
    return dict(dict(type='CocoDataset', data_root=str(folder), ann_file='coco.json', data_prefix=dict(img='images/'),
                     metainfo=dict(classes=CLASSES)), **changes)


def only(findings, level='error'):
    (found,) = findings
    assert found.level == level and '\n' not in found.text
    return found.text


def test_a_valid_set_has_no_findings(folder):
    assert check_dataset('train', config(folder), True) == []


@pytest.mark.parametrize('changes, message', [
    (dict(ann_file='coko.json'), 'coko.json does not exist'),
    (dict(data_root='/no/such/place'), '/ exists and holds'),
    (dict(data_prefix=dict(img='image/')), 'holds coco.json, images'),
    (dict(data_prefix=dict(img_path='images/')), "'img', not 'img_path'"),
    (dict(data_prefix=dict(img='')), '001.jpg'),
    (dict(metainfo=dict(CLASSES=CLASSES)), "write 'classes'"),
    (dict(metainfo=dict(classes='apple')), "('apple',)"),
    (dict(classes=CLASSES), 'train_dataloader.dataset.classes is a key of mmdet 2; write metainfo=dict(classes=…)'),
    (dict(img_prefix='images'), 'train_dataloader.dataset.img_prefix is a key of mmdet 2; write data_prefix='),
    (dict(ann_file=['coco.json', 'coco.json']), "ann_file is a list, but a data set reads one file; set "
     "train_dataloader.dataset to dict(type='ConcatDataset'"),
    (dict(metainfo=dict(classes=('apple', 'lime', 'pear'))), "no category ['pear']"),
])
def test_invalid_configs_are_reported(folder, changes, message):
    texts = [finding.text for finding in check_dataset('train_dataloader.dataset', config(folder, **changes), True)
             if finding.level == 'error']
    assert message in texts[0] and texts[0].startswith('train_dataloader.dataset')


def test_files_of_data_sets_with_their_own_reader(folder, monkeypatch):
    """Only the class of the user can read them."""
    from mmdet.datasets import CocoDataset

    class OwnSet(CocoDataset):
        def load_data_list(self):
            return []

    class MergedSet(CocoDataset):
        def parse_data_info(self, raw_data_info):
            return raw_data_info

    class LongerSet(CocoDataset):
        METAINFO = dict(classes=CLASSES)

    (folder / 'own.json').write_text('[]')
    for kind, changes, count in ((OwnSet, dict(ann_file='own.json'), 0), (OwnSet, dict(ann_file='part 1'), 0),
                                 (OwnSet, dict(ann_file=['own.json', 'other.csv']), 0),
                                 (OwnSet, dict(metainfo=dict(classes='apple')), 1),
                                 (MergedSet, dict(metainfo=dict(classes=('fruit',))), 0),
                                 (LongerSet, dict(ann_file='own.json'), 1)):
        monkeypatch.setitem(DATASETS.module_dict, kind.__name__, kind)
        found = check_dataset('train', config(folder, **dict(changes, type=kind.__name__)), True)
        assert len(found) == count, found


@pytest.mark.parametrize('kind', ['BaseDetDataset', 'MultiLabelDataset', 'MultiTaskDataset'])
def test_files_in_the_format_of_mmengine(folder, kind):
    (folder / 'mm.json').write_text('{"metainfo": {"classes": ["apple"]}, "data_list": []}')
    assert check_dataset('train', config(folder, type=kind, ann_file='mm.json'), True) == []
    assert 'mn.json does not exist' in only(check_dataset('train', config(folder, type=kind, ann_file='mn.json'), True))


def test_images_without_annotations_of_semi_supervised_training(folder):
    content = json.loads((folder / 'coco.json').read_text())
    (folder / 'unlabeled.json').write_text(json.dumps(dict(content, annotations=[])))
    unlabeled = config(folder, ann_file='unlabeled.json', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadEmptyAnnotations'), dict(type='PackDetInputs')])
    assert check_dataset('train', unlabeled, True) == []
    unlabeled['pipeline'][1]['type'] = 'LoadAnnotations'
    assert 'unlabeled.json has no annotations' in only(check_dataset('train', unlabeled, True))


def test_both_class_lists_are_printed(folder):
    text = only(check_dataset('train', config(folder, metainfo=dict(classes=('a', 'b'))), True))
    assert "metainfo: ['a', 'b']; file: ['apple', 'lime', 'plum']" in text


def test_a_subset_of_the_classes_is_a_warning(folder):
    assert "['lime']" in only(check_dataset('t', config(folder, metainfo=dict(classes=('apple', 'plum'))), True),
                              'warning')


def test_a_class_that_is_named_twice(folder):
    assert "metainfo.classes names ['lime'] more than once; name each class once" in only(
        check_dataset('t', config(folder, metainfo=dict(classes=('lime', 'apple', 'lime', 'plum'))), True))
    assert compare_classes(['cat', 'cat'], ['cat', 'cat']) == []  # two categories of the file have this name


def test_the_classes_of_the_type_are_the_default(folder):
    assert 'person' in only(check_dataset('train', config(folder, metainfo=None), True))


@pytest.mark.parametrize('content, message', [
    ('{"images": [],\n "categories": [}', 'line 2, column 17'),
    ('', 'is empty'),
    ('[1, 2]', 'found a list'),
    ('{"images": [{"id": 1}]}', "a list 'categories'"),
    ('{"images": [], "categories": [{"id": 1, "name": "apple"}]}', "'images' is empty"),
])
def test_a_broken_annotation_file(folder, content, message):
    (folder / 'coco.json').write_text(content)
    assert message in only(check_dataset('train', config(folder), True))


def test_missing_images_are_named(folder):
    (folder / 'images' / '003.jpg').unlink()
    assert '003.jpg' in only(check_dataset('train', config(folder), True))


def test_images_of_lvis_are_found_by_their_url(folder):
    content = json.loads((folder / 'coco.json').read_text())
    for image in content['images']:
        image['coco_url'] = f'http://images.cocodataset.org/images/{image.pop("file_name")}'
    (folder / 'coco.json').write_text(json.dumps(content))
    assert check_dataset('train', config(folder, data_prefix=dict(img='')), True) == []


def test_training_without_annotations(folder):
    content = json.loads((folder / 'coco.json').read_text())
    (folder / 'coco.json').write_text(json.dumps({**content, 'annotations': []}))
    assert 'no annotations' in only(check_dataset('train', config(folder), True))
    assert check_dataset('test', config(folder), False) == []


def test_only_images_and_categories_of_large_files_are_decoded(folder, monkeypatch):
    whole = summarize_coco(str(folder / 'coco.json'))
    monkeypatch.setattr(detection_data, 'FULL_PARSE_BYTES', 100)
    content = json.loads((folder / 'coco.json').read_text())
    info = dict(note='a text with "images": [1]', categories='a text')
    (folder / 'large.json').write_text(json.dumps(dict(info=info, **content), indent=1))
    part = summarize_coco(str(folder / 'large.json'))
    assert part.classes == whole.classes and part.file_names == whole.file_names and part.annotations is None
    (folder / 'cut.json').write_text(json.dumps(content)[:-40])
    with pytest.raises(UserError, match='ends in the middle'):
        summarize_coco(str(folder / 'cut.json'))


@pytest.mark.parametrize('prefix, folder', [(dict(img='a'), 'root/a'), (dict(img_path='b'), 'root/b'), (None, 'root'),
                                            (dict(img='/c'), '/c')])
def test_the_image_folder_of_a_config(prefix, folder):
    assert detection_data.image_folder(dict(data_root='root', data_prefix=prefix)) == folder


def test_wrapped_data_sets_are_found():
    leaf = [dict(type='CocoDataset', number=number) for number in range(3)]
    wrapped = dict(type='ConcatDataset', datasets=[
        dict(type='RepeatDataset', times=2, dataset=leaf[0]),
        dict(type='MultiImageMixDataset', dataset=dict(type='ClassBalancedDataset', dataset=leaf[1])), leaf[2]])
    found = dict(leaf_datasets(wrapped, 'train'))
    assert list(found.values()) == leaf
    assert 'train.datasets.1.dataset.dataset' in found


@given(st.permutations(['a', 'b', 'c', 'd']), st.lists(st.sampled_from('abcde'), unique=True, min_size=1))
def test_classes_of_the_file_pass_in_any_order(file, required):
    """Labels follow the order of the config; names that the file does not have are an error."""
    levels = [level for level, _ in compare_classes(required, file)]
    assert ('error' in levels) == bool(set(required) - set(file))
    assert (levels == []) == (set(file) == set(required))
