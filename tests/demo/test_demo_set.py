"""The demo dataset: reproducibility, valid COCO annotations, and masks of the visible parts."""

import json
import sys

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from vitdet_plugin.demo import demo_set
from vitdet_plugin.demo.demo_objects import CLASS_NAMES, coverage
from vitdet_plugin.demo.demo_set import CATEGORY_IDS, PHOTOGRAPHS, compose, load_photograph, write_demo_set
from vitdet_plugin.errors import UserError


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp('demo')
    write_demo_set(folder, train=40, val=10)
    return folder


@pytest.fixture(scope='module')
def train(root):
    return COCO(str(root / 'annotations' / 'train.json'))


def test_files_do_not_depend_on_the_number_of_images(root, tmp_path):
    write_demo_set(tmp_path, train=5, val=10)
    assert (tmp_path / 'annotations' / 'val.json').read_bytes() == (root / 'annotations' / 'val.json').read_bytes()
    for name in ('train/000004.jpg', 'val/000009.jpg'):
        assert (tmp_path / name).read_bytes() == (root / name).read_bytes()


def test_seeds_and_splits_differ(root, tmp_path):
    write_demo_set(tmp_path, train=1, val=1, seed=1)
    files = [folder / split / '000000.jpg' for folder in (root, tmp_path) for split in ('train', 'val')]
    assert len({file.read_bytes() for file in files}) == 4


def test_splits_use_different_photographs():
    used = [(package, file) for photographs in PHOTOGRAPHS.values() for package, file, *_ in photographs]
    assert len(used) == len(set(used))


def test_images_exist_with_the_annotated_sizes(root, train):
    sizes = set()
    for record in train.imgs.values():
        image = cv2.imread(str(root / 'train' / record['file_name']))
        assert image.shape[:2] == (record['height'], record['width'])
        sizes.add(image.shape[:2])
    assert sizes == {(120, 160), (160, 120), (128, 128)}


def test_category_ids_are_sparse_and_all_used(train):
    assert {category['name']: category['id'] for category in train.cats.values()} == CATEGORY_IDS
    assert {annotation['category_id'] for annotation in train.anns.values()} == set(CATEGORY_IDS.values())


def test_masks_are_polygons_and_both_kinds_of_rle(train):
    kinds = {type(a['segmentation']) if isinstance(a['segmentation'], list) else type(a['segmentation']['counts'])
             for a in train.anns.values()}
    assert len(train.anns) > 80
    assert kinds == {list, str}
    plain = [a for a in train.anns.values() if isinstance(a['segmentation'], dict)
             and isinstance(a['segmentation']['counts'], list)]
    assert plain
    assert all(sum(a['segmentation']['counts']) == np.prod(a['segmentation']['size']) for a in plain)


def test_boxes_and_areas_fit_the_masks(train):
    for annotation in train.anns.values():
        mask = train.annToMask(annotation)
        x, y, width, height = mask_utils.toBbox(train.annToRLE(annotation))
        np.testing.assert_allclose(annotation['bbox'], [x, y, width, height], atol=2.5)  # thin tips
        assert abs(int(mask.sum()) - annotation['area']) <= 0.12 * annotation['area'] + 12  # polygons: border pixels
        assert annotation['area'] >= demo_set.MIN_VISIBLE_PIXELS


def test_masks_of_one_image_hardly_overlap(train):
    for image_id, annotations in train.imgToAnns.items():
        total = sum(train.annToMask(annotation).astype(int) for annotation in annotations)
        assert (total > 1).mean() < 0.02, image_id


def test_a_ring_keeps_its_hole(train):
    rings = [a for a in train.anns.values() if a['category_id'] == CATEGORY_IDS['ring']]
    with_hole = 0
    for ring in rings:
        mask = train.annToMask(ring)
        _, hierarchy = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        with_hole += (hierarchy[0, :, 3] >= 0).any()
    assert with_hole >= 0.4 * len(rings)  # others are cut by the border or occluded


def test_a_minimum_part_of_each_object_is_visible():
    photograph = load_photograph(*PHOTOGRAPHS['train'][1][:2])
    for seed in range(20):
        _, objects, owner = compose(np.random.default_rng(seed), photograph, 160)
        assert 1 <= len(objects) <= 6
        for number, obj in enumerate(objects):
            whole = coverage([ring + 200 for ring in obj.rings], (0, 0, 600, 600)).sum()
            assert (owner == number).sum() >= 0.9 * demo_set.MIN_VISIBLE_SHARE * whole


def test_objects_stand_out_from_the_background():
    photograph = np.full((200, 200, 3), 128, np.uint8)
    image, _, owner = compose(np.random.default_rng(3), photograph, 160)
    background = image[owner < 0].mean(0)
    assert (np.abs(image[owner >= 0] - background).max(1) > 25).mean() > 0.8


def test_coverage_of_a_half_covered_pixel_is_a_half():
    square = np.array([[1.5, 1], [4, 1], [4, 3], [1.5, 3]])
    cover = coverage([square], (0, 0, 6, 5))
    assert cover[1, 1] == pytest.approx(0.5, abs=0.15)
    assert cover[2, 2] == 1
    assert cover[0].max() == 0


def test_a_missing_photograph_is_an_error(monkeypatch):
    with pytest.raises(UserError, match=r'coffee2\.png is missing or unreadable; reinstall the package skimage'):
        load_photograph('skimage', 'data/coffee2.png')
    expected = r'no_such_package, which is not installed; run pip install "vitdet-plugin\[demo\]"'
    with pytest.raises(UserError, match=expected):
        load_photograph('no_such_package', 'x.png')


def test_missing_shapely_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'shapely', None)
    with pytest.raises(UserError, match=r'shapely is not installed; run pip install "vitdet-plugin\[demo\]"'):
        demo_set.write_demo_set(tmp_path, train=1, val=0)


@pytest.mark.parametrize('arguments', [{'size': 20}, {'train': -1}, {'train': 0, 'val': 0}])
def test_wrong_arguments_are_an_error(tmp_path, arguments):
    with pytest.raises(UserError, match='demo set'):
        write_demo_set(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_folder_is_an_error(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='cannot write to'):
        write_demo_set(tmp_path / 'file' / 'demo', train=1, val=1)


def test_info_contains_the_generator_and_the_licenses(root):
    content = json.loads((root / 'annotations' / 'train.json').read_text())
    licenses = {each['id'] for each in content['licenses']}
    assert content['info']['generator'] == 'vitdet_plugin.demo.demo_set'
    assert all(image['license'] in licenses and image['background'] for image in content['images'])
    assert {category['name'] for category in content['categories']} == set(CLASS_NAMES)
