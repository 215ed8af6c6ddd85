"""Samples of large COCO files that ranks share: the same as mmdet loads, in every data set that users build."""

import contextlib
import gc
import io
import json
import multiprocessing
import os
import pickle

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmengine.registry import DATASETS, init_default_scope

from vitdet_plugin.coco.sample_file import MappedBytes
from vitdet_plugin.compat import coco_start

NAMES = ('cat', 'dog', 'é€')


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Share the samples of files of any size, in a folder of the test."""
    monkeypatch.setattr(coco_start, 'SHARED_BYTES', 0)
    monkeypatch.setenv('VITDET_ANNOTATION_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(gc, 'collect', lambda: 0)  # by mmengine, in each data set: a second in this process
    init_default_scope('mmdet')
    return tmp_path / 'cache'


def content(seed=0):
    """Return a file with images without objects, objects without image, and annotations in any order."""
    rng = np.random.default_rng(seed)
    images = [dict(id=int(key), file_name=f'{key}.jpg', width=60 + int(key) % 7, height=50, license=1)
              for key in rng.permutation(40)]
    annotations = []
    for number in range(150):
        x, y, width, height = rng.uniform(-10, 60, 4).round(2).tolist()
        annotations.append(dict(id=number, image_id=int(rng.integers(0, 45)), category_id=int(rng.integers(1, 6)),
                                bbox=[x, y, width, height], area=width * height, iscrowd=int(rng.random() < 0.2),
                                segmentation=[[x, y, x + width, y, x + width, y + height]]))
    categories = [dict(id=key, name=name) for key, name in zip((3, 1, 4, 2), (*NAMES, 'unused'))]
    return dict(info=dict(year=1), images=images, annotations=annotations, categories=categories)


def odd(*changes, **keys):
    """Return a file in which annotations are changed: ``keys`` in every third, each of ``changes`` in another one."""
    found = content()
    for number, annotation in enumerate(found['annotations']):
        annotation.update(keys if number % 3 == 0 else {})
        if changes and number % 2:
            annotation.update(changes[number // 2 % len(changes)])
    return found


def without(key, **others):
    found = content()
    for annotation in found['annotations'][::3]:
        del annotation[key]
        annotation.update(others)
    return found


def of_images(**keys):
    found = content()
    for image in found['images'][::2]:
        image.update(keys)
    return found


RLE = dict(size=[50, 60], counts=[100, 20, 2880])
FILES = {
    'plain': content(), 'floats': odd(bbox=[1.5, 2, 10, 20.25], area=7, segmentation=[[1, 2, 3.5, 4, 5, 6, 7, 8]]),
    'flags': odd(*(dict(iscrowd=flag) for flag in ('1', 'false', True, None, 1.0, '', 7)), ignore=1),
    'text ignore': odd(dict(ignore='true'), dict(ignore='0'), dict(ignore=0)),
    'no flag': without('iscrowd'), 'no mask': without('segmentation'), 'no area': without('area'),
    'no box': without('bbox'), 'empty box': odd(bbox=[]), 'no box and no mask': without('bbox', segmentation=[]),
    'masks': odd(*(dict(segmentation=each) for each in (
        [], [[1, 2]], [[1, 2, 3, 4, 5, 6], [1, 2]], [1, 2, 3, 4, 5, 6], [[[1, 2], [3, 4], [5, 6]]], RLE, [RLE],
        dict(size=[50, 60], counts='nonsense'), None))),
    'text ids': {**(text := odd(*(dict(image_id=str(key)) for key in range(40)))),
                 'images': [{**image, 'id': str(image['id'])} for image in text['images']]},
    'float ids': odd(dict(image_id=3.0, category_id=1.0), dict(image_id=2.0**60), dict(image_id=3.5)),
    'ids from 0 and twice': {**content(), 'images': [*content()['images'], *(
        {**image, 'width': 30} for image in content()['images'][:9])]},
    'numbers as names': {**content(), 'categories': [dict(id=key, name=key) for key in range(1, 6)]},
    'names twice': {**content(), 'categories': [*content()['categories'], dict(id=9, name='cat')]},
    'sorted keys': dict(sorted(content().items())),
    'categories inside images': of_images(categories=[dict(id=8, name='x')]),
    'infinite': odd(dict(area=float('inf')), dict(area=float('nan')), dict(bbox=[1, 2, float('nan'), 4])),
    'areas': odd(dict(area=0), dict(area='12'), dict(area=-1)), 'large integers': odd(area=10**30),
    'large ids': odd(dict(image_id=2**70 + 1), category_id=10**25 + 1),
    'no images': {**content(), 'images': []}, 'no annotations': {**content(), 'annotations': []},
    'without the key annotations': {key: value for key, value in content().items() if key != 'annotations'},
    'numbers as text': odd(bbox=['1', 2, 3, 4], area='12'),
    # refused by mmdet, or by the conversions
    'wrong flag': odd(iscrowd='perhaps'), 'words in a box': odd(bbox=['x', 2, 3, 4]), 'short box': odd(bbox=[1, 2, 3]),
    'no width': {**content(), 'images': [dict(id=1, file_name='a.jpg')]}, 'an image without id': of_images(id=None),
    'no image id': without('image_id'), 'an annotation that is a number': {**content(), 'annotations': [3]},
    'a category without a name': {**content(), 'categories': [dict(id=1)]}, 'a list': [], 'text': 'abc',
}
LOADED_BY_MMDET = ('float ids', 'names twice', 'categories inside images', 'without the key annotations', 'large ids',
                   'no images', 'no box and no mask', *list(FILES)[list(FILES).index('wrong flag'):])
FILTERS = [None, dict(filter_empty_gt=True, min_size=32), dict(filter_empty_gt=False, min_size=64)]


def build(path, kind='CocoDataset', **kwargs):
    cfg = dict(type=kind, ann_file=str(path), data_root='', data_prefix=dict(img='images/'), pipeline=[],
               metainfo=dict(classes=NAMES))
    with contextlib.redirect_stdout(io.StringIO()):
        return DATASETS.build({**cfg, **kwargs})


def outcome(path, monkeypatch, is_shared, **kwargs):
    """Return all that users read from a data set, or the error."""
    with monkeypatch.context() as patch:
        if not is_shared:
            patch.setenv('VITDET_ANNOTATION_CACHE', 'off')
        try:
            dataset = build(path, **kwargs)
        except BaseException as error:
            return f'{type(error).__name__}: {error}'
    samples = [dataset.get_data_info(index) for index in [*range(len(dataset)), -1]]
    return repr([[dict(sorted(sample.items())), [sorted(each.items()) for each in sample['instances']]]
                 for sample in samples]), repr((dataset.cat_ids, dataset.cat2label, dict(sorted(
                     (key, value) for key, value in dataset.cat_img_map.items() if value)), dataset.data_list))


def write(path, found, **style):
    path.write_text(json.dumps(found, **style))
    return path


@pytest.mark.parametrize('name', FILES)
def test_samples_are_those_of_mmdet(name, tmp_path, monkeypatch, cache):
    path = write(tmp_path / 'a.json', FILES[name])
    for filters in FILTERS:
        expected = outcome(path, monkeypatch, False, filter_cfg=filters)
        for _ in range(2):  # written, then read
            found = outcome(path, monkeypatch, True, filter_cfg=filters)
            assert len(found) == len(expected)
            assert found == expected
    assert any(cache.glob('*.samples')) == (name not in LOADED_BY_MMDET)


@pytest.mark.parametrize('kwargs', [
    dict(indices=7), dict(indices=-3), dict(indices=[1, 4, 9]), dict(indices=[4, 1, 4]), dict(test_mode=True),
    dict(metainfo=dict(classes=('dog',))), dict(metainfo=dict(classes=('é€', 'cat'))), dict(return_classes=True),
    dict(data_prefix=dict(img='x', seg='y/')), dict(serialize_data=False), dict(lazy_init=True),
    dict(metainfo=dict(classes=('absent',)))], ids=str)
def test_arguments_of_the_data_set(kwargs, tmp_path, monkeypatch):
    path = write(tmp_path / 'a.json', content())
    outcome(path, monkeypatch, True)  # the file of other arguments
    for _ in range(2):
        assert outcome(path, monkeypatch, True, **kwargs) == outcome(path, monkeypatch, False, **kwargs)


def test_samples_are_shared_and_copies(tmp_path, cache):
    dataset = build(write(tmp_path / 'a.json', content()))
    assert isinstance(dataset.data_bytes, MappedBytes) and not dataset.data_bytes.flags.writeable
    dataset.get_data_info(0)['instances'].clear()
    dataset.get_data_info(0)['img_path'] = 'other'
    assert dataset.get_data_info(0)['instances'] and dataset.get_data_info(0)['img_path'] != 'other'
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize('wrapper', ['RepeatDataset', 'ClassBalancedDataset', 'ConcatDataset'])
def test_wrappers(wrapper, tmp_path, monkeypatch):
    path = write(tmp_path / 'a.json', content())
    inner = dict(type='CocoDataset', ann_file=str(path), data_prefix=dict(img=''), pipeline=[],
                 metainfo=dict(classes=NAMES), filter_cfg=dict(filter_empty_gt=True))
    cfg = {'RepeatDataset': dict(times=2, dataset=inner), 'ConcatDataset': dict(datasets=[inner, inner]),
           'ClassBalancedDataset': dict(oversample_thr=0.9, dataset=inner)}[wrapper]
    with contextlib.redirect_stdout(io.StringIO()):
        shared = DATASETS.build(dict(type=wrapper, **cfg))
        monkeypatch.setenv('VITDET_ANNOTATION_CACHE', 'off')
        alone = DATASETS.build(dict(type=wrapper, **cfg))
    assert len(shared) == len(alone)
    assert repr([shared[index] for index in range(len(shared))]) == repr([alone[index] for index in range(len(alone))])


def test_subsets_and_pickles(tmp_path):
    dataset = build(write(tmp_path / 'a.json', content()))
    expected = [dataset[index] for index in range(4)]
    assert [dataset.get_subset(4)[index] for index in range(4)] == expected
    assert pickle.loads(pickle.dumps(dataset))[3] == expected[3]
    assert dataset.get_subset([2, 0])[0]['img_id'] == expected[2]['img_id']
    dataset.get_subset_(3)
    assert len(dataset) == 3 and dataset[2] == expected[2]


class Shifted(CocoDataset):
    """A user's data set with rules of its own."""

    def parse_data_info(self, raw_data_info):
        return {**super().parse_data_info(raw_data_info), 'number': len(self.coco.imgs)}


def test_subclasses_with_other_rules_are_loaded_by_themselves(tmp_path, cache):
    path = write(tmp_path / 'a.json', content())
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = Shifted(ann_file=str(path), data_prefix=dict(img=''), pipeline=[], metainfo=dict(classes=NAMES))
    assert dataset[0]['number'] == 40
    assert not cache.exists()


def test_a_changed_file_is_read_again(tmp_path):
    path = write(tmp_path / 'a.json', content())
    before = build(path)[0]
    status = path.stat()
    changed = content()
    for image in changed['images']:
        image['height'] = 51  # as many characters
    write(path, changed)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert before['height'] == 50 and build(path)[0]['height'] == 51


def _load(path, log):
    write_samples = coco_start._write

    def counted(*args):
        with open(log, 'a') as file:
            file.write('.')
        write_samples(*args)

    coco_start._write = counted
    assert len(build(path)) == 40


def test_ranks_that_start_together_read_the_file_once(tmp_path):
    path, log = write(tmp_path / 'a.json', content()), tmp_path / 'log'
    context = multiprocessing.get_context('fork')
    ranks = [context.Process(target=_load, args=(path, log)) for _ in range(4)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * 4
    assert log.read_text() == '.'
