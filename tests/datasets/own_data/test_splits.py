"""Splits of own data: shares, classes, groups, copies."""

import shutil
from collections import Counter

import numpy as np
import pytest

from tests.datasets.own_data.drawn_sets import class_set, draw_image, drawn_set
from vitdet_plugin.datasets.formats.base import SourceSet
from vitdet_plugin.datasets.own_data.grouping import groups_by_name
from vitdet_plugin.datasets.own_data.splits import choose_splits
from vitdet_plugin.datasets.stratify import choose_part
from vitdet_plugin.errors import UserError


def _names(images):
    return sorted(image.path.name for image in images)


@pytest.mark.parametrize('seed', range(5))
def test_a_part_has_its_share_of_every_label(seed):
    random = np.random.default_rng(seed)
    shares = dict(common=0.9, usual=0.3, rare=0.05)
    labels = [Counter({name: int(random.integers(1, 9)) for name, share in shares.items() if random.random() < share})
              for _ in range(400)]
    part = choose_part(labels, range(400), 0.25, seed)
    assert abs(len(part) - 100) <= 4
    for name in shares:
        total = sum(name in each for each in labels)
        assert abs(sum(name in labels[index] for index in part) - total / 4) <= 2


def test_groups_are_never_divided_and_the_same_seed_gives_the_same_part():
    labels = [Counter(a=1) if index % 3 else Counter() for index in range(120)]
    groups = [index // 8 for index in range(120)]
    part = choose_part(labels, groups, 0.2, 3)
    assert part == choose_part(labels, groups, 0.2, 3)
    assert {groups[index] for index in part}.isdisjoint(groups[index] for index in range(120) if index not in part)
    assert 16 <= len(part) <= 32


@pytest.mark.parametrize('count', [2, 3, 5])
def test_small_sets_have_images_on_both_sides(count):
    part = choose_part([Counter(a=1)] * count, range(count), 0.2)
    assert 0 < len(part) < count
    assert choose_part([Counter(a=1)] * count, [0] * count, 0.2) == []


@pytest.mark.parametrize('names, groups', [
    ([f'dog{index // 3}_jpg.rf.{index:032x}.jpg' for index in range(9)], 3),  # Roboflow: three copies of each
    ([f'clip{index // 5}_frame_{index % 5:04}.png' for index in range(50)], 10),
    ([f'clip{index // 5}_frame_{index % 5}_jpg.rf.{index:032x}.jpg' for index in range(50)], 10),
    ([f'vid{index // 6}_frame{index % 6:05}.png' for index in range(30)], 5),
    ([f'vid{index // 20}_frame{index % 20:05}.png' for index in range(30)], 2),
    ([f'video{index // 6}/{index % 6:05}.jpg' for index in range(30)], 5),
    ([f'plant{index // 4}-{index % 4}.png' for index in range(20)], 20),  # five groups may be something else
    ([f'plant{index // 4}-{index % 4}.png' for index in range(40)], 10),
    ([f'video{index // 6}/{index % 6:05}.jpg' for index in range(60)], 10),
    ([f'BloodImage_{index:05}.jpg' for index in range(60)], 60),  # one series, no groups
    ([f'{"cat" if index % 2 else "dog"}.{index}.jpg' for index in range(60)], 60),  # classes, not groups
    ([f'{index}_jpg.rf.{index:032x}.jpg' for index in range(20)], 20),  # Roboflow without copies
    ([f'{index:06}.jpg' for index in range(30)], 30),
])
def test_groups_of_usual_names(tmp_path, names, groups):
    keys, reason = groups_by_name([tmp_path / name for name in names])
    assert len(set(keys)) == groups
    assert bool(reason) == (groups < len(names))


def test_copies_and_nearly_equal_images_stay_in_one_split(tmp_path):
    found = drawn_set(tmp_path, 20)
    for index in range(0, 20, 2):
        twin = tmp_path / f'other {index}.png'
        shutil.copy(found.images[index].path, twin)
        found.add_image(twin)
    splits = choose_splits(found)
    assert splits.val and splits.train and len(splits.val) + len(splits.train) == 30
    pixels = [{image.path.read_bytes() for image in images} for images in (splits.train, splits.val)]
    assert pixels[0].isdisjoint(pixels[1])
    assert any('10 images have the same pixels' in note for note in splits.notes)


def test_the_splits_of_the_source_are_kept_without_copies_of_evaluated_images(tmp_path):
    found = drawn_set(tmp_path, 12, split=lambda index: ('train', 'train', 'val', 'test')[index % 4])
    shutil.copy(found.images[2].path, tmp_path / 'copy.png')
    found.add_image(tmp_path / 'copy.png', 'train')
    splits = choose_splits(found)
    assert splits.reason == 'those of the source'
    assert [len(images) for _, images in splits.items()] == [6, 3, 3]
    assert 'copy.png' not in _names(splits.train)
    assert [each.file.name for each in splits.problems] == ['copy.png']
    assert 'same pixels' in splits.problems[0].text


def test_a_test_split_is_kept_and_validation_images_are_taken_from_the_others(tmp_path):
    found = drawn_set(tmp_path, 20, split=lambda index: 'train' if index < 15 else 'test')
    splits = choose_splits(found, seed=1)
    assert [len(images) for _, images in splits.items()] == [12, 3, 5]
    again = choose_splits(found, seed=1)
    assert _names(again.val) == _names(splits.val)


def test_images_without_a_split_are_trained_on_if_the_source_has_val(tmp_path):
    found = drawn_set(tmp_path, 10, split=lambda index: 'val' if index < 3 else None)
    assert [len(images) for _, images in choose_splits(found).items()] == [7, 3]


def test_a_fraction_of_the_user_replaces_the_splits_of_the_source(tmp_path):
    found = drawn_set(tmp_path, 20, split=lambda index: 'train' if index < 18 else 'val')
    assert [len(images) for _, images in choose_splits(found, 0.5).items()] == [10, 10]


@pytest.mark.parametrize('count', [5, 10, 20, 40])
@pytest.mark.parametrize('annotated', [2, 3])
def test_both_sides_have_objects_if_two_images_do(tmp_path, count, annotated):
    source = drawn_set(tmp_path, count)
    for image in source.images[annotated:]:
        image.objects = []
    for seed in range(3):
        splits = choose_splits(source, seed=seed)
        assert all(any(image.objects for image in images) for images in (splits.train, splits.val))


def test_classes_of_images_are_stratified(tmp_path):
    splits = choose_splits(class_set(tmp_path, 10))
    assert Counter(image.label for image in splits.val) == {'apple': 2, 'Grüne Limette': 2}


def test_a_pattern_of_the_user_names_the_groups(tmp_path):
    found = drawn_set(tmp_path, 20, names='{:02}.png')
    splits = choose_splits(found, pattern=r'(\d)\d\.png')
    assert {name[0] for name in _names(splits.val)}.isdisjoint(name[0] for name in _names(splits.train))


def test_damaged_images_are_listed(tmp_path):
    found = drawn_set(tmp_path, 6)
    content = found.images[0].path.read_bytes()
    found.images[0].path.write_bytes(content[:len(content) // 2])
    splits = choose_splits(found)
    assert len(splits.train) + len(splits.val) == 5
    assert 'left out' in str(splits.problems[0]) and '00' in str(splits.problems[0])
    for image in found.images:
        image.path.write_bytes(b'x')
    with pytest.raises(UserError, match='none of the 6 images can be decoded'):
        choose_splits(found)


def test_a_single_image_is_trained_and_evaluated_on(tmp_path):
    found = drawn_set(tmp_path, 1)
    splits = choose_splits(found)
    assert splits.train == splits.val and 'say nothing about other images' in splits.reason
    draw_image(tmp_path / 'b.png', 7)


@pytest.mark.parametrize('empty', ['val', 'test'])
def test_a_split_without_annotations_is_left_out(tmp_path, empty):
    source = drawn_set(tmp_path, 12)
    for index, image in enumerate(source.images):
        image.split = ('train', 'train', 'val', 'test')[index % 4]
        if image.split == empty:
            image.objects = []
    splits = choose_splits(source)
    assert any(f'the 3 images of the {empty} split of the source have no annotations' in note for note in splits.notes)
    used = [*splits.train, *splits.val, *splits.test]
    assert len(used) == 9 and not any(image.split == empty for image in used)
    assert splits.val and all(any(image.objects for image in part) for part in (splits.train, splits.val))


def test_a_rule_for_names_that_names_the_classes_is_not_used(tmp_path):
    source = SourceSet('x')
    for index in range(80):
        name = f'coin{index % 8}'
        draw_image(tmp_path / name / f'{name}_{index:02}.png', index)
        source.add_image(tmp_path / name / f'{name}_{index:02}.png', label=name)
    splits = choose_splits(source)
    assert set(Counter(image.label for image in splits.val).values()) == {2} and len(splits.val) == 16
    assert any('8 groups: not kept in one split' in note for note in splits.notes)


def test_groups_by_name_that_leave_one_class_out_are_kept(tmp_path):
    source = SourceSet('x')
    for index in range(100):  # ten videos, of which one alone has the third class
        path = tmp_path / f'clip{index // 10}_frame_{index % 10}.png'
        draw_image(path, index)
        image = source.add_image(path)
        for name in ('a', 'b', 'd', 'e', *(['c'] if index < 10 else [])):
            source.add_object(image, name, path, box=(2, 2, 9, 9))
    splits = choose_splits(source)
    videos = [{image.path.name.split('_')[0] for image in images} for images in (splits.train, splits.val)]
    assert len(videos[1]) == 2 and videos[0].isdisjoint(videos[1])


def _videos(folder, names, classes=('a', 'b')):
    source = SourceSet('x')
    for index, name in enumerate(names):
        draw_image(folder / name, index)
        image = source.add_image(folder / name)
        source.add_object(image, classes[index % len(classes)], folder / name, box=(2, 2, 9, 9))
    return source


@pytest.mark.parametrize('name', ['vid{}_frame{:05}.png', 'vid{}/{:05}.png'])
@pytest.mark.parametrize('seed', range(3))
def test_a_fifth_of_five_videos_is_one_video(tmp_path, name, seed):
    source = _videos(tmp_path, [name.format(index // 6, index % 6) for index in range(30)])
    splits = choose_splits(source, seed=seed)
    videos = [{str(image.path.relative_to(tmp_path))[:4] for image in images} for images in (splits.train, splits.val)]
    assert len(splits.val) == 6 and len(videos[1]) == 1 and videos[0].isdisjoint(videos[1])
    assert any('5 groups: kept in one split' in note for note in splits.notes)


@pytest.mark.parametrize(('name', 'says'), [
    ('vid0_frame{1:05}.png', '1 groups: not kept in one split'),
    ('vid{0}_frame{1:05}.png', '2 groups: not kept in one split'),
    ('day{0}_{1:05}.png', 'up to the last number, 2 groups: not kept in one split, since so few')])
def test_videos_that_are_not_kept_together_are_stated(tmp_path, name, says):
    splits = choose_splits(_videos(tmp_path, [name.format(index // 15, index) for index in range(30)]))
    assert len(splits.val) == 6 and any(says in note for note in splits.notes)


def test_the_splits_of_the_source_that_divide_videos_are_noted(tmp_path):
    source = SourceSet('x')
    for index in range(90):
        path = tmp_path / f'clip{index // 10}_frame_{index % 10}.png'
        draw_image(path, index)
        source.add_object(source.add_image(path, 'val' if index % 10 == 9 else 'train'), 'a', path, box=(2, 2, 9, 9))
    splits = choose_splits(source)
    assert len(splits.val) == 9 and any('9 of 9 groups have images both for training and' in note
                                        for note in splits.notes)
