"""Masks and drawings with the names of images do not replace images that are missing."""

import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.reading import write, write_image
from vitdet_plugin.datasets.formats import recognize
from vitdet_plugin.datasets.formats.tree import FileTree

NAMES = 'abcd'
BOX = '<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax>' \
      '</bndbox></object></annotation>'


def write_form(path):
    """Another image of the same size, whose file has another size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 100), np.uint8)).save(path)


def write_annotations(root, kind):
    for name in NAMES:
        if kind == 'yolo':
            write(root / f'labels/{name}.txt', '0 0.5 0.5 0.2 0.2')
        elif kind == 'voc':
            write(root / f'xml/{name}.xml', BOX)
        elif kind == 'labelme':
            write(root / f'json/{name}.json', dict(version='5', flags={}, imagePath=f'{name}.jpg', imageData=None,
                                                   imageWidth=100, imageHeight=80, shapes=[dict(
                                                       label='cat', shape_type='rectangle', flags={},
                                                       points=[[1, 2], [30, 40]])]))
    if kind == 'yolo':
        write(root / 'classes.txt', 'cat')
    if kind == 'coco':
        write(root / 'train.json', dict(
            categories=[dict(id=1, name='cat')],
            images=[dict(id=i, file_name=f'{name}.jpg', width=100, height=80) for i, name in enumerate(NAMES)],
            annotations=[dict(id=i, image_id=i, category_id=1, bbox=[1, 2, 29, 38], iscrowd=0, area=9)
                         for i in range(len(NAMES))]))


def read(root):
    tree = FileTree(root)
    return recognize(tree)[0].read(tree)


@pytest.mark.parametrize(('kind', 'images', 'others'), [
    *((kind, 'images/{}.jpg', others) for kind in ('coco', 'yolo', 'voc', 'labelme')
      for others in ('masks/{}.png', 'results/{}.jpg')), ('coco', 'photos/{}.jpg', 'masks/{}.png')])
def test_a_missing_image(tmp_path, kind, images, others):
    for name in NAMES:
        write_form(tmp_path / others.format(name))
        if name != 'd':
            write_image(tmp_path / images.format(name))
    write_annotations(tmp_path, kind)
    found = read(tmp_path)
    assert sorted(str(image.path.relative_to(tmp_path)) for image in found.images
                  if image.objects) == [images.format(name) for name in 'abc']
    assert any('d.' in problem.text or 'd.' in problem.file.name for problem in found.problems)


@pytest.mark.parametrize('kind', ['coco', 'yolo', 'voc', 'labelme'])
@pytest.mark.parametrize('paths', [
    [f'images/{name}.jpg' for name in 'abc'] + [f'train/{name}.jpg' for name in NAMES],  # copies
    [f'images/{name}.jpg' for name in 'abc'] + ['more/d.jpg'], [f'photos/{name}.png' for name in NAMES],
    [f'labels/{name}.jpg' for name in NAMES]])
def test_an_image_in_another_folder_or_with_another_suffix(tmp_path, kind, paths):
    for path in paths:
        write_image(tmp_path / path)
    write_annotations(tmp_path, kind)
    assert {image.path.stem for image in read(tmp_path).images if image.objects} == {*NAMES}
