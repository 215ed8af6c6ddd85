"""mmdet's data sets and metrics on COCO files as other tools write them."""

import contextlib
import io
import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.evaluation import CocoMetric
from mmengine.registry import init_default_scope
from pycocotools import mask as operations

from tests.end_to_end.tiny_set import CLASSES, write_tiny_set
from vitdet_plugin.errors import UserError
from vitdet_plugin.evaluation.coco_metric import FastCocoMetric


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    init_default_scope('mmdet')
    return write_tiny_set(tmp_path_factory.mktemp('files') / 'set', images=4)


@pytest.fixture
def content(folder):
    return json.loads((folder / 'coco.json').read_text())


def load(folder, content, path, classes=CLASSES, poly2mask=False):
    path.write_text(json.dumps(content))
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True, with_mask=True,
                                                     poly2mask=poly2mask)]
    with contextlib.redirect_stdout(io.StringIO()):
        return CocoDataset(ann_file=str(path), data_prefix=dict(img=str(folder / 'images')),
                           metainfo=dict(classes=classes), pipeline=pipeline)


def labels(dataset):
    return [[instance['bbox_label'] for instance in dataset.get_data_info(index)['instances']]
            for index in range(len(dataset))]


def to_rle(annotation, is_text):
    """Replace the polygons by an RLE of a rectangle with a hole."""
    x, y, width, height = annotation['bbox']
    mask = np.zeros((64, 64), np.uint8, order='F')
    mask[y:y + height, x:x + width] = 1
    mask[y + 3:y + 6, x + 4:x + 7] = 0
    rle = operations.encode(mask)
    counts = rle['counts'].decode()
    if not is_text:
        changes = np.flatnonzero(np.diff(np.concatenate([[0], mask.ravel('F'), [2]])))
        counts = np.diff(np.concatenate([[0], changes])).tolist()
    annotation.update(iscrowd=0, segmentation=dict(size=[64, 64], counts=counts))
    return mask


@pytest.mark.parametrize('poly2mask', [False, True])
def test_rle_is_loaded_whatever_the_pipeline_says(folder, content, tmp_path, poly2mask):
    masks = {}
    for number, annotation in enumerate(content['annotations']):
        masks.setdefault(annotation['image_id'], []).append(to_rle(annotation, is_text=number % 2))
    dataset = load(folder, content, tmp_path / 'a.json', poly2mask=poly2mask)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert not sample['gt_ignore_flags'].any()
        assert np.array_equal(sample['gt_masks'].to_ndarray(), np.stack(masks[sample['img_id']]))
        assert all(isinstance(each['mask'], dict) for each in sample['instances'])  # for drawing and evaluation


@pytest.mark.parametrize('poly2mask', [False, True])
def test_objects_without_a_usable_mask_are_ignored(folder, content, tmp_path, poly2mask):
    content['annotations'] = [each for each in content['annotations'] if each['image_id'] == 1][:1] * 5
    for number, mask in enumerate([[[]], [[1, 1, 5, 5]], None, [], content['annotations'][0]['segmentation'][0]]):
        content['annotations'][number] = dict(content['annotations'][number], id=number, segmentation=mask)
    del content['annotations'][3]['segmentation']
    sample = load(folder, content, tmp_path / 'a.json', poly2mask=poly2mask)[0]
    assert sample['gt_ignore_flags'].tolist() == [True] * 4 + [False] and len(sample['gt_masks']) == 5


def test_a_root_category_with_the_same_name(folder, content, tmp_path):
    expected = labels(load(folder, content, tmp_path / 'a.json'))
    content['categories'].insert(0, dict(id=0, name='apple', supercategory='none'))
    assert labels(load(folder, content, tmp_path / 'b.json')) == expected
    content['annotations'][0]['category_id'] = 0
    content['annotations'][1]['category_id'] = 1
    with pytest.raises(UserError, match=r"b.json: category names that occur twice.*'apple' \(ids 0, 1\)"):
        load(folder, content, tmp_path / 'b.json')


def test_numbers_as_names_and_text_as_ids(folder, content, tmp_path):
    expected = labels(load(folder, content, tmp_path / 'a.json'))
    for number, category in enumerate(content['categories']):
        category.update(name=number, id=str(category['id']))
    for annotation in content['annotations']:
        annotation.update(image_id=f'00{annotation["image_id"]}', iscrowd='0')
    for image in content['images']:
        image['id'] = f'00{image["id"]}'
    for classes in ((0, 1, 2), ('0', '1', '2')):
        dataset = load(folder, content, tmp_path / 'b.json', classes)
        assert labels(dataset) == expected and dataset.metainfo['classes'] == ('0', '1', '2')
        assert not any(instance['ignore_flag'] for index in range(len(dataset))
                       for instance in dataset.get_data_info(index)['instances'])


def test_a_file_of_class_names(folder, content, tmp_path):
    (tmp_path / 'classes.txt').write_bytes(b'\xef\xbb\xbfapple\r\n\r\n lime\r\nplum\r\n')
    dataset = load(folder, content, tmp_path / 'a.json', str(tmp_path / 'classes.txt'))
    assert dataset.metainfo['classes'] == CLASSES


def test_a_byte_order_mark_and_another_content(tmp_path):
    (tmp_path / 'a.json').write_text('[1]')
    with pytest.raises(UserError, match='a.json: not a COCO file: .* found a list'):
        CocoDataset(ann_file=str(tmp_path / 'a.json'), metainfo=dict(classes=CLASSES))


def predictions(content, ids):
    """Return results of a detector that finds every object, the last one shifted."""
    results = []
    for image in content['images']:
        own = [each for each in content['annotations'] if each['image_id'] == image['id']]
        boxes = np.array([each['bbox'] for each in own], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        if image is content['images'][-1]:
            boxes += 3
        masks = [operations.encode(np.asfortranarray(np.ones((64, 64), np.uint8))) for _ in own]
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.astype(int)):
            area = np.zeros((64, 64), np.uint8, order='F')
            area[y1:y2, x1:x2] = 1
            mask.update(operations.encode(area))
        results.append((dict(), dict(img_id=ids[image['id']], bboxes=boxes, masks=masks,
                                     scores=0.9 - 0.01 * len(results) - 0.001 * np.arange(len(own)),
                                     labels=np.array([each['category_id'] - 1 for each in own]))))
    return results


def evaluate(kind, content, path, results, **kwargs):
    path.write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        metric = kind(ann_file=str(path), metric=['bbox', 'segm'], **kwargs)
        metric.dataset_meta = dict(classes=CLASSES)
        return metric.compute_metrics(results)


KINDS = [(FastCocoMetric, {}), (FastCocoMetric, dict(backend='pycocotools')), (CocoMetric, {})]


@pytest.mark.parametrize('kind, options', KINDS)
def test_metrics_do_not_depend_on_how_the_file_is_written(content, tmp_path, kind, options):
    results = predictions(content, {image['id']: image['id'] for image in content['images']})
    expected = evaluate(kind, content, tmp_path / 'a.json', results, **options)
    assert 0.5 < expected['bbox_mAP'] < 1 and 0.5 < expected['segm_mAP'] < 1
    for key in ('iscrowd', 'id', 'area'):  # the areas are those of the masks
        changed = dict(content, annotations=[{name: value for name, value in each.items() if name != key}
                                             for each in content['annotations']])
        assert evaluate(kind, changed, tmp_path / 'b.json', results, **options) == expected
    for new_id in (lambda key: key - 1, str, float, lambda key: 1):
        changed = dict(content, annotations=[dict(each, id=new_id(each['id'])) for each in content['annotations']])
        assert evaluate(kind, changed, tmp_path / 'b.json', results, **options) == expected


@pytest.mark.parametrize('kind, options', KINDS)
@pytest.mark.parametrize('text', ['000{}', 'scan {}'])
def test_predictions_have_the_ids_of_the_file(folder, content, tmp_path, kind, options, text):
    ids = {image['id']: image['id'] for image in content['images']}
    expected = evaluate(kind, content, tmp_path / 'a.json', predictions(content, ids), **options)
    changed = dict(content, images=[dict(each, id=text.format(each['id'])) for each in content['images']],
                   categories=[dict(each, id=str(each['id'])) for each in content['categories']],
                   annotations=[dict(each, image_id=text.format(each['image_id']), category_id=str(each['category_id']))
                                for each in content['annotations']])
    dataset = load(folder, changed, tmp_path / 'b.json')
    ids = dict(zip(ids, (dataset.get_data_info(index)['img_id'] for index in range(len(dataset)))))
    out = str(tmp_path / 'out')
    assert evaluate(kind, changed, tmp_path / 'b.json', predictions(content, ids), outfile_prefix=out,
                    **options) == expected
    written = json.loads((tmp_path / 'out.bbox.json').read_text())
    assert {each['image_id'] for each in written} == {image['id'] for image in changed['images']}
    assert {each['category_id'] for each in written} <= {'1', '2', '3'}


@pytest.mark.parametrize('kind, options', KINDS)
def test_an_object_without_a_mask_is_evaluated_as_missed(content, tmp_path, kind, options):
    results = predictions(content, {image['id']: image['id'] for image in content['images']})
    expected = evaluate(kind, content, tmp_path / 'a.json', results, **options)
    content['annotations'][0]['segmentation'] = [[]]
    found = evaluate(kind, content, tmp_path / 'b.json', results, **options)
    assert found['bbox_mAP'] == expected['bbox_mAP'] and found['segm_mAP'] < expected['segm_mAP']
