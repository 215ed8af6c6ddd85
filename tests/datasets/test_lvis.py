"""LVIS files as a data set: file names, class order, classes in the config."""

import json

import cv2
import numpy as np
import pytest
from mmengine.registry import DATASETS, init_default_scope

from vitdet_plugin.errors import UserError

NAMES = ('pear', 'apple', 'quince')


@pytest.fixture
def root(tmp_path):
    """Images in two folders; category ids are neither sorted nor start at 1."""
    images, annotations = [], []
    for i, split in enumerate(('train2017', 'val2017', 'train2017'), start=1):
        (tmp_path / split).mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / split / f'{i:012}.jpg'), np.full((40, 60, 3), 40 * i, np.uint8))
        images.append(dict(id=i, width=60, height=40, neg_category_ids=[], not_exhaustive_category_ids=[],
                           coco_url=f'http://images.cocodataset.org/{split}/{i:012}.jpg'))
        annotations.append(dict(id=i, image_id=i, category_id=(3, 7, 5)[i - 1], bbox=[4, 5, 20, 10], area=200,
                                segmentation=[[4, 5, 24, 5, 24, 15, 4, 15]]))
    categories = [dict(id=i, name=name, frequency='f', image_count=1) for i, name in zip((3, 5, 7), NAMES)]
    (tmp_path / 'lvis.json').write_text(json.dumps(dict(images=images, annotations=annotations,
                                                        categories=categories)))
    init_default_scope('mmdet')
    return tmp_path


def build(root, **kwargs):
    cfg = dict(type='LVISDetDataset', data_root=str(root), ann_file='lvis.json', data_prefix=dict(img=''),
               metainfo=dict(classes=NAMES), pipeline=[])
    return DATASETS.build({**cfg, **kwargs})


def test_images_are_found_by_their_url(root):
    data = build(root, pipeline=[dict(type='LoadImageFromFile')])
    assert [data[i]['img'].mean().round() for i in range(3)] == [40, 80, 120]
    assert [data.get_data_info(i)['instances'][0]['bbox_label'] for i in range(3)] == [0, 2, 1]


def test_rare_classes_repeat(root):
    data = DATASETS.build(dict(type='ClassBalancedDataset', oversample_thr=1.0, dataset=dict(
        type='LVISDetDataset', data_root=str(root), ann_file='lvis.json', data_prefix=dict(img=''),
        metainfo=dict(classes=NAMES), pipeline=[])))
    assert len(data) == 6  # sqrt(1.0 / (1 / 3)) = 1.7, rounded up: each image twice


def test_classes_that_are_missing_in_the_file(root):
    with pytest.raises(UserError, match='has 3 of the 4 classes'):
        build(root, metainfo=dict(classes=(*NAMES, 'medlar')))
    with pytest.raises(UserError, match='of the 1203 classes'):
        build(root, metainfo=None)
