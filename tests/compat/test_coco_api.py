"""mmdet's COCO classes with categories in any order, and annotations without masks, iscrowd or results."""

import contextlib
import io
import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric
from pycocotools import mask as rle

from vitdet_plugin.compat.coco_api import has_mask, usable_truth
from vitdet_plugin.evaluation.coco_metric import FastCocoMetric

METRICS = [CocoMetric, lambda **kwargs: FastCocoMetric(backend='pycocotools', **kwargs), FastCocoMetric]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file with one object of each of three classes in each of two images."""
    def write(ids=(1, 2, 3), names='abc', **changes):
        annotations = []
        for image in (1, 2):
            for category in sorted(ids):
                x = 40. * len([each for each in annotations if each['image_id'] == image])
                annotations.append({**dict(
                    id=len(annotations) + 1, image_id=image, category_id=category, bbox=[x, 5., 30., 20.], area=600.,
                    iscrowd=0, segmentation=[[x, 5., x + 30, 5., x + 30, 25., x, 25.]]), **changes})
        content = dict(images=[dict(id=image, file_name=f'{image}.png', width=130, height=50) for image in (1, 2)],
                       categories=[dict(id=key, name=name) for key, name in zip(ids, names)], annotations=annotations)
        (tmp_path / 'truth.json').write_text(json.dumps(content))
        return tmp_path / 'truth.json', content
    return write


def perfect(content, classes, found='abc'):
    """Predictions of the objects of the classes ``found``."""
    name_of = {each['id']: each['name'] for each in content['categories']}
    results = []
    for image in (1, 2):
        own = [each for each in content['annotations'] if each['image_id'] == image
               and name_of[each['category_id']] in found]
        boxes = np.array([each['bbox'] for each in own]).reshape(-1, 4)
        masks = []
        for x, y, w, h in boxes.astype(int):
            mask = np.zeros((50, 130), np.uint8, order='F')
            mask[y:y + h, x:x + w] = 1
            masks.append(rle.encode(mask))
        boxes[:, 2:] += boxes[:, :2]
        results.append((dict(img_id=image, width=130, height=50), dict(
            img_id=image, bboxes=boxes, scores=np.full(len(own), 0.9), masks=masks,
            labels=np.array([classes.index(name_of[each['category_id']]) for each in own], int))))
    return results


def evaluate(kind, path, results, classes='abc', metric=('bbox', 'segm'), **kwargs):
    with contextlib.redirect_stdout(io.StringIO()):
        metric = kind(ann_file=str(path), metric=list(metric), **kwargs)
        metric.dataset_meta = dict(classes=tuple(classes))
        return metric.compute_metrics(results)


@pytest.mark.parametrize('ids', [(1, 2, 3), (3, 1, 2), (70, 5, 6)])
def test_labels_follow_the_names_of_the_config(write, ids):
    path, content = write(ids, 'abc')
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = CocoDataset(ann_file=str(path), data_prefix=dict(img=''), test_mode=True,
                              metainfo=dict(classes=('c', 'a', 'b')))
    assert dataset.cat_ids == [ids[2], ids[0], ids[1]]
    name_of = {each['id']: each['name'] for each in content['categories']}
    truth = [name_of[each['category_id']] for each in content['annotations'][:3]]
    assert ['cab'[each['bbox_label']] for each in dataset.get_data_info(0)['instances']] == truth


@pytest.mark.parametrize('kind', [*METRICS, lambda **kwargs: CocoMetric(use_mp_eval=True, **kwargs)])
def test_per_class_results_have_the_names_of_their_classes(write, kind):
    path, content = write((3, 1, 2), 'abc')
    metrics = evaluate(kind, path, perfect(content, 'bca', found='a'), 'bca', classwise=True)
    assert [metrics[f'{name}_precision'] for name in 'abc'] == [1, 0, 0]
    assert metrics['bbox_mAP'] == metrics['segm_mAP'] == 0.333


def test_names_that_are_numbers(write):
    path, _ = write((4, 5, 6), (2, 0, 1))
    with contextlib.redirect_stdout(io.StringIO()):
        assert COCO(str(path)).get_cat_ids(cat_names=('0', '1', '2')) == [5, 6, 4]


def test_a_root_category_of_the_same_name_is_left_out(write):
    path, content = write((1, 2, 3), 'abc')
    content['categories'].insert(0, dict(id=0, name='b'))
    path.write_text(json.dumps(content))
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(str(path))
    assert api.get_cat_ids(cat_names=['c', 'b', 'a']) == [3, 2, 1]
    assert api.get_cat_ids() == [1, 2, 3] and api.get_cat_ids(cat_names='a') == [1]


@pytest.mark.parametrize('kind', METRICS)
def test_without_iscrowd(write, kind):
    path, content = write()
    for each in content['annotations']:
        del each['iscrowd']
    path.write_text(json.dumps(content))
    metrics = evaluate(kind, path, perfect(content, 'abc'))
    assert metrics['bbox_mAP'] == metrics['segm_mAP'] == 1


@pytest.mark.parametrize('kind', METRICS)
@pytest.mark.parametrize('empty', [[], None, [[]], [[1, 2, 3, 4]]])
def test_objects_without_a_mask_are_not_evaluated_for_segm(write, kind, empty):
    path, content = write()
    for each in content['annotations'][:3]:
        each['segmentation'] = empty
    path.write_text(json.dumps(content))
    results = perfect(content, 'abc')
    metrics = evaluate(kind, path, results)
    assert metrics['bbox_mAP'] == metrics['segm_mAP'] == 1
    results[0][1].update(bboxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int), masks=[])
    metrics = evaluate(kind, path, results)
    assert metrics['bbox_mAP'] < 0.6 and metrics['segm_mAP'] == 1


@pytest.mark.parametrize('kind', METRICS)
def test_no_detection_is_zero(write, kind):
    path, content = write()
    metrics = evaluate(kind, path, perfect(content, 'abc', found=''), metric=('bbox', 'segm', 'proposal'))
    assert metrics['bbox_mAP'] == metrics['segm_mAP'] == metrics['AR@100'] == 0


def test_flags_as_text_and_masks():
    truth = COCO()
    truth.dataset = dict(annotations=[dict(id=1, iscrowd=value, image_id=1, category_id=1, bbox=[0, 0, 1, 1])
                                      for value in ('0', '1', 'false', None, True, 1.0)])
    assert [each['iscrowd'] for each in usable_truth(truth, 'bbox').dataset['annotations']] == [0, 1, 0, 0, 1, 1]
    assert has_mask(dict(segmentation=dict(size=[1, 1], counts='x'))) and not has_mask(dict(segmentation={}))
