"""Images whose objects were all refused are left out: training would take them as background."""

import json

import pytest

from tests.datasets.formats.reading import read, write
from tests.datasets.formats.samples import SAMPLES, write_sample
from vitdet_plugin.datasets.formats.base import SourceImage, SourceSet

FAULTS = [
    ('coco', '[10, 20, 30, 40]', '[10, 20, 0, 40]'),
    ('coco', '"category_id": 1', '"category_id": 7'),
    ('yolo', '0.3 0.5', '0 0.5'),
    ('voc', '<xmax>40', '<xmax>10'),
    ('voc', '<xmax>40', '<xmax>x'),
    ('csv', 'cat,10,20,40,60', 'cat,10,20,10,60'),
    ('csv', 'cat,10,20,40,60', 'cat,10,,40,60'),
    ('labelme', '[40, 60]', '[10, 60]'),
    ('via', '"width": 30', '"width": 0'),
    ('via', '"width": 30', '"width": null'),
    ('cvat', 'xbr="40"', 'xbr="10"'),
    ('cvat', 'xbr="40"', 'xbr="x"'),
    ('createml', '"width": 30', '"width": null'),
    ('kitti', '40.00', '10.00'),
    ('dota', '10 20 40 20 40 60 10 60', '10 20 10 20 10 60 10 60'),
]


@pytest.mark.parametrize('name, right, wrong', FAULTS)
def test_an_image_without_its_objects_is_left_out(tmp_path, name, right, wrong):
    form, images, files = SAMPLES[name]
    texts = {path: text if isinstance(text, str) else json.dumps(text) for path, text in files.items()}
    assert any(right in text for text in texts.values())
    write_sample(tmp_path, images, {path: text.replace(right, wrong) for path, text in texts.items()})
    found = read(tmp_path, form, form)
    assert [(image.objects, image.refused) for image in found.images] == [([], 1)] and len(found.problems) == 1
    found.leave_out_emptied()
    assert found.images == [] and found.notes[-1].startswith('1 images are left out because none of their objects')


def test_images_with_another_object_or_without_any_stay(tmp_path):
    write_sample(tmp_path, *SAMPLES['yolo'][1:])
    write_sample(tmp_path, ['images/train/b.jpg', 'images/train/c.jpg'], {})
    write(tmp_path / 'labels/train/a.txt', '0 0.25 0.5 0.3 0.5\n0 0.5 0.5 0 0\n')
    write(tmp_path / 'labels/train/b.txt', '')
    found = read(tmp_path, 'yolo')
    notes = [*found.notes]
    found.leave_out_emptied()
    assert sorted(image.path.name for image in found.images if 'c.jpg' not in image.path.name) == ['a.jpg', 'b.jpg']
    assert found.notes == notes and len(found.problems) == 1


def test_images_of_classes_stay(tmp_path):
    found = SourceSet('x', images=[SourceImage(tmp_path / 'a.jpg', 4, 4, label='cat', refused=1)])
    found.leave_out_emptied()
    assert len(found.images) == 1
