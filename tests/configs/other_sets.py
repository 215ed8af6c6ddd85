"""Tiny sets in the files of LVIS, Objects365, OpenImages, Pascal VOC and CrowdHuman, with the official classes."""

import csv
import json
import pickle
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from mmdet.datasets import LVISV1Dataset, Objects365V2Dataset, VOCDataset
from mmdet.evaluation.functional import oid_v6_classes

IMAGES, SIZE = 4, 64
BOXES = [(8, 10, 24, 20), (34, 30, 20, 26)]  # x, y, width, height; one of each of two classes
LABELS = (0, 7)


def write_images(folder: Path, pattern: str = '{}.jpg') -> list[str]:
    """Write the images; return their names without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(IMAGES):
        image = random.integers(90, 130, (SIZE, SIZE, 3), dtype=np.uint8)
        for (x, y, w, h), color in zip(BOXES, ((40, 40, 220), (40, 200, 40))):
            image[y:y + h, x:x + w] = color
        cv2.imwrite(str(folder / pattern.format(f'{number:012}')), image)
    return [f'{number:012}' for number in range(IMAGES)]


def coco_content(classes: tuple[str, ...], **image_fields: object) -> dict:
    names = [f'{number:012}' for number in range(IMAGES)]
    return dict(
        images=[dict(id=i, file_name=f'{name}.jpg', width=SIZE, height=SIZE, **image_fields)
                for i, name in enumerate(names)],
        annotations=[dict(id=2 * i + j + 1, image_id=i, category_id=label + 1, bbox=list(box), area=box[2] * box[3],
                          iscrowd=0)
                     for i in range(IMAGES) for j, (box, label) in enumerate(zip(BOXES, LABELS))],
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(classes)])


def write_objects365(data: Path) -> None:
    root = data / 'Objects365/Obj365_v2'
    (root / 'annotations').mkdir(parents=True)
    content = json.dumps(coco_content(Objects365V2Dataset.METAINFO['classes']))
    for split in ('train', 'val'):
        write_images(root / split)
        (root / f'annotations/zhiyuan_objv2_{split}.json').write_text(content)


def write_lvis(data: Path) -> None:
    content = coco_content(LVISV1Dataset.METAINFO['classes'], neg_category_ids=[], not_exhaustive_category_ids=[])
    for image in content['images']:
        image['coco_url'] = f'http://images.cocodataset.org/train2017/{image.pop("file_name")}'
    for category in content['categories']:
        category.update(frequency='f', image_count=category['id'])
    write_images(data / 'coco/train2017')
    (data / 'lvis').mkdir()
    for split in ('train', 'val'):
        (data / f'lvis/lvis_v1_{split}.json').write_text(json.dumps(content))


def write_voc(data: Path) -> None:
    for year, lists in ((2007, ('trainval', 'test')), (2012, ('trainval',))):
        root = data / f'VOCdevkit/VOC{year}'
        names = write_images(root / 'JPEGImages')
        (root / 'ImageSets/Main').mkdir(parents=True)
        (root / 'Annotations').mkdir()
        for each in lists:
            (root / f'ImageSets/Main/{each}.txt').write_text('\n'.join(names) + '\n')
        for name in names:
            top = ElementTree.Element('annotation')
            size = ElementTree.SubElement(top, 'size')
            for key in ('width', 'height'):
                ElementTree.SubElement(size, key).text = str(SIZE)
            for (x, y, w, h), label in zip(BOXES, LABELS):
                thing = ElementTree.SubElement(top, 'object')
                ElementTree.SubElement(thing, 'name').text = VOCDataset.METAINFO['classes'][label]
                ElementTree.SubElement(thing, 'difficult').text = '0'
                box = ElementTree.SubElement(thing, 'bndbox')
                for key, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), (x + 1, y + 1, x + w, y + h)):
                    ElementTree.SubElement(box, key).text = str(value)
            ElementTree.ElementTree(top).write(root / f'Annotations/{name}.xml')


def write_openimages(data: Path) -> None:
    root, classes = data / 'OpenImages', oid_v6_classes()
    ids = [f'/m/{i:05}' for i in range(len(classes))]
    (root / 'annotations').mkdir(parents=True)
    with open(root / 'annotations/class-descriptions-boxable.csv', 'w', newline='') as file:
        csv.writer(file).writerows(zip(ids, classes))
    tree = dict(LabelName='/m/entity', Subcategory=[dict(LabelName=each) for each in ids])
    (root / 'annotations/bbox_labels_600_hierarchy.json').write_text(json.dumps(tree))
    for split, boxes in (('train', 'oidv6-train'), ('validation', 'validation')):
        names = write_images(root / 'OpenImages' / split)
        header = ['ImageID', 'Source', 'LabelName', 'Confidence', 'XMin', 'XMax', 'YMin', 'YMax', 'IsOccluded',
                  'IsTruncated', 'IsGroupOf', 'IsDepiction', 'IsInside']
        rows = [[name, 'xclick', ids[label], 1, x / SIZE, (x + w) / SIZE, y / SIZE, (y + h) / SIZE, 0, 0, 0, 0, 0]
                for name in names for (x, y, w, h), label in zip(BOXES, LABELS)]
        with open(root / f'annotations/{boxes}-annotations-bbox.csv', 'w', newline='') as file:
            csv.writer(file).writerows([header, *rows])
        metas = [dict(filename=f'OpenImages/{split}/{name}.jpg', ori_shape=(SIZE, SIZE, 3)) for name in names]
        (root / f'annotations/{split}-image-metas.pkl').write_bytes(pickle.dumps(metas))
    with open(root / 'annotations/validation-annotations-human-imagelabels-boxable.csv', 'w', newline='') as file:
        csv.writer(file).writerows([['ImageID', 'Source', 'LabelName', 'Confidence'],
                                    *([name, 'verification', ids[3], 0] for name in names)])


def write_crowdhuman(data: Path) -> None:
    root = data / 'CrowdHuman'
    names = write_images(root / 'Images')
    rows = [json.dumps(dict(ID=name, gtboxes=[
        dict(tag='person', fbox=list(box), hbox=list(box), vbox=list(box), head_attr={}, extra=dict(ignore=0))
        for box in BOXES])) for name in names]
    for split in ('train', 'val'):
        (root / f'annotation_{split}.odgt').write_text('\n'.join(rows) + '\n')
