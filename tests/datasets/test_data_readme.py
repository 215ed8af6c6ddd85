"""The recipes in data/README.md work as written."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from vitdet_plugin.demo.demo_set import PHOTOGRAPHS

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / 'data' / 'README.md').read_text()
RECIPES = dict(re.findall(r'```python\n# configs/(\w+)\.py\n(.*?)```', TEXT, re.DOTALL))


@pytest.fixture
def load(tmp_path):
    def load_recipe(name):
        path = tmp_path / f'{name}.py'
        path.write_text(RECIPES[name].replace("_base_ = '", f"_base_ = '{ROOT}/configs/"))
        return Config.fromfile(path)
    return load_recipe


def test_custom_recipe_reads_the_json_next_to_it(load, tmp_path):
    from mmdet.datasets import CocoDataset
    config = load('my_nuts')
    folder = tmp_path / 'data' / 'nuts'
    (folder / 'annotations').mkdir(parents=True)
    example = re.search(r'```json\n(.*?)```', TEXT, re.DOTALL).group(1)
    (folder / 'annotations' / 'train.json').write_text(example)
    dataset = dict(config.train_dataloader.dataset, data_root=str(folder), pipeline=[])
    assert dataset.pop('type') == 'CocoDataset'
    data = CocoDataset(**dataset)
    assert len(data) == 1
    image = data.get_data_info(0)
    assert image['img_path'] == str(folder / 'images' / 'a.jpg')
    assert data.metainfo['classes'][image['instances'][0]['bbox_label']] == 'fig'
    assert config.model.roi_head.mask_head.num_classes == config.model.roi_head.bbox_head.num_classes == 2
    assert config.val_evaluator.ann_file == 'data/nuts/annotations/val.json'


def test_voc_recipe_reads_the_layout_next_to_it(load, tmp_path):
    from mmdet.datasets import VOCDataset
    config = load('my_voc')
    folder = tmp_path / 'data' / 'VOCdevkit' / 'VOC2007'
    for part in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (folder / part).mkdir(parents=True)
    (folder / 'ImageSets/Main/trainval.txt').write_text('000005\n')
    cv2.imwrite(str(folder / 'JPEGImages/000005.jpg'), np.zeros((60, 80, 3), np.uint8))
    root = ElementTree.fromstring(
        '<annotation><size><width>80</width><height>60</height></size><object><name>cat</name><difficult>0</difficult>'
        '<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object></annotation>')
    ElementTree.ElementTree(root).write(folder / 'Annotations/000005.xml')
    dataset = dict(config.train_dataloader.dataset, data_root=str(folder.parent), pipeline=[])
    assert dataset.pop('type') == 'VOCDataset'
    image = VOCDataset(**dataset).get_data_info(0)
    assert Path(image['img_path']).is_file()
    assert image['instances'][0]['bbox'] == [10, 5, 39, 49]  # VOC counts from 1, mmdet subtracts 1 from all four
    assert config.model.type == 'FasterRCNN'
    assert config.val_evaluator.type == 'VOCMetric'
    assert 'ann_file' not in config.val_evaluator


def test_every_config_in_the_text_exists():
    named = re.findall(r'`(configs/[\w./-]+\.py)`', TEXT)
    assert named
    assert all((ROOT / name).is_file() for name in named)


def test_every_photograph_is_credited():
    for photographs in PHOTOGRAPHS.values():
        for _, file, *_ in photographs:
            assert Path(file).stem in TEXT
