from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.tiny_classes import CLASSES, write_class_folders
from tests.end_to_end.tiny_set import load_tool
from vitdet_plugin.datasets.split import groups_by_pattern, groups_from_csv, split_indices
from vitdet_plugin.errors import UserError


@settings(max_examples=40)
@given(counts=st.lists(st.integers(10, 60), min_size=2, max_size=6), seed=st.integers(0, 99),
       fractions=st.sampled_from([(0.7, 0.15, 0.15), (0.8, 0.2, 0.0), (0.5, 0.2, 0.3)]))
def test_every_sample_occurs_once_and_classes_keep_their_proportions(counts, seed, fractions):
    labels = np.repeat(np.arange(len(counts)), counts)
    parts = split_indices(labels, fractions, seed)
    assert sorted(np.concatenate(parts)) == list(range(len(labels)))
    for part, fraction in zip(parts, fractions):
        for label, count in enumerate(counts):
            assert abs((labels[part] == label).sum() - fraction * count) <= 2
    repeated = split_indices(labels, fractions, seed)
    assert all((a == b).all() for a, b in zip(parts, repeated))


def test_seeds_differ():
    labels = [0, 1] * 30
    assert list(split_indices(labels, (0.5, 0.5), 0)[0]) != list(split_indices(labels, (0.5, 0.5), 1)[0])


@settings(max_examples=30)
@given(groups=st.lists(st.integers(0, 11), min_size=60, max_size=120), seed=st.integers(0, 99))
def test_groups_are_never_divided(groups, seed):
    groups = [*range(12), *groups]  # twelve at least
    labels = [group % 3 for group in groups]
    parts = split_indices(labels, (0.6, 0.2, 0.2), seed, [str(group) for group in groups])
    assert sorted(np.concatenate(parts)) == list(range(len(groups)))
    seen = [{groups[index] for index in part} for part in parts]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert all(seen)


def test_shares_and_classes_of_groups_are_close_to_the_fractions():
    labels = np.tile([0, 1], 300)
    groups = np.arange(600) // 6
    parts = split_indices(labels, (0.7, 0.15, 0.15), 0, groups)
    np.testing.assert_allclose([len(part) / 600 for part in parts], (0.7, 0.15, 0.15), atol=0.03)
    assert all(abs(np.mean(labels[part]) - 0.5) < 0.05 for part in parts)


@pytest.mark.parametrize('fractions, text', [((0.5, 0.4, 0.2), 'sum to 1'), ((1.0, 0.0, 0.0), 'in .0, 1'),
                                             ((0.98, 0.01, 0.01), 'split of 1 images cannot hold each'),
                                             ((float('nan'), 0.5, 0.5), 'in .0, 1'), ((0, 0.5, 0.5), 'first split')])
def test_invalid_fractions(fractions, text):
    with pytest.raises(UserError, match=text):
        split_indices([0, 1, 2] * 10, fractions)


def test_classes_with_too_few_images_are_named():
    labels = [0] * 9 + [1] + [2] * 5
    with pytest.raises(UserError, match=r'too few images for 3 splits: b \(1 image\); add images'):
        split_indices(labels, (0.6, 0.2, 0.2), 0, classes='abc')
    with pytest.raises(UserError, match='seed -1: give a number from 0'):
        split_indices([0] * 9, (0.5, 0.5), -1)


def test_too_few_groups():
    with pytest.raises(UserError, match='2 groups cannot be divided into 3'):
        split_indices([0, 1] * 10, (0.6, 0.2, 0.2), 0, ['a', 'b'] * 10)


def test_sources_of_groups(tmp_path):
    files = ['Fat Hen/p1_a.png', 'Fat Hen/p1_b.png', 'Maize/p2_a.png']
    assert groups_by_pattern(files, r'(p\d)_') == ['p1', 'p1', 'p2']
    assert groups_by_pattern(files, r'p\d') == ['p1', 'p1', 'p2']
    with pytest.raises(UserError, match='does not match Fat Hen/p1_a.png'):
        groups_by_pattern(files, 'x')
    with pytest.raises(UserError, match='not a regular expression'):
        groups_by_pattern(files, '(')
    table = tmp_path / 'g.csv'
    table.write_text('file,group\nFat Hen/p1_a.png,1\nFat Hen/p1_b.png,1\n')
    assert groups_from_csv(files[:2], table) == ['1', '1']
    with pytest.raises(UserError, match='lacks 1 of 3 images: Maize'):
        groups_from_csv(files, table)


@pytest.fixture
def folder(tmp_path):
    return write_class_folders(tmp_path / 'my set', per_class=10)


def split(folder, out, *words):
    return load_tool('dataset/split').main([str(folder), '--out', str(out), *words])


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob('*') if path.is_file()}


def test_lists_are_read_by_mmpretrain(folder, tmp_path, capsys):
    before = snapshot(folder)
    assert split(folder, tmp_path / 'the lists', '--fractions', '.6', '.2', '.2') == 0
    assert snapshot(folder) == before and list(tmp_path.glob('the lists/*/')) == []
    names = {}
    exec(capsys.readouterr().out.split('for the config:\n')[1], names)
    from mmpretrain.datasets import CustomDataset
    names['dataset'].pop('type')
    dataset = CustomDataset(**names['dataset'], pipeline=[])
    assert dataset.CLASSES == CLASSES and Counter(dataset.get_gt_labels()) == {0: 6, 1: 6, 2: 6}
    assert all(open(dataset.get_data_info(index)['img_path'], 'rb').read(1) for index in range(len(dataset)))
    assert all(CLASSES[info['gt_label']] in info['img_path'] for info in map(dataset.get_data_info, range(18)))


@pytest.mark.parametrize('mode', ['link', 'copy'])
def test_folders(folder, tmp_path, mode, capsys):
    assert split(folder, tmp_path / 'out', '--mode', mode, '--fractions', '.5', '0', '.5') == 0
    files = [path for path in (tmp_path / 'out').rglob('*') if path.is_file() and path.name != 'classes.txt']
    assert len(files) == 30 and all(path.is_symlink() == (mode == 'link') for path in files)
    assert {path.parent.parent.name for path in files} == {'train', 'test'}
    names = {}
    exec(capsys.readouterr().out.split('for the config:\n')[1], names)
    from mmpretrain.datasets import CustomDataset
    names['dataset'].pop('type')
    dataset = CustomDataset(**names['dataset'], pipeline=[])
    assert dataset.CLASSES == CLASSES and len(dataset) == 15  # with .webp, which mmpretrain skips by default


def test_nothing_is_overwritten(folder, tmp_path, capsys):
    assert split(folder, tmp_path / 'out') == 0
    before = snapshot(tmp_path)
    assert split(folder, tmp_path / 'out', '--seed', '1') == 2
    assert 'not empty; nothing is overwritten' in capsys.readouterr().err
    for inside in ('Maize/lists', '.'):
        assert split(folder, folder / inside) == 2
    assert split(folder, folder / 'links', '--mode', 'link') == 2
    assert snapshot(tmp_path) == before
    assert split(tmp_path / 'none', tmp_path / 'new') == 2 and not (tmp_path / 'new').exists()


@pytest.mark.parametrize('seed', range(4))
def test_groups_of_unequal_sizes_and_mixed_classes_are_stratified(seed):
    random = np.random.default_rng(0)
    labels, groups = [], []
    for group in range(40):
        main = int(random.integers(0, 4))
        for _ in range(int(random.integers(1, 12))):
            labels.append(main if random.random() < 0.8 else int(random.integers(0, 4)))
            groups.append(f'plant{group}')
    parts = split_indices(labels, [0.7, 0.15, 0.15], seed, groups)
    of_part = [{groups[index] for index in part} for part in parts]
    assert sum(map(len, of_part)) == len(set(groups))
    for part in parts[1:]:
        assert abs(len(part) - 0.15 * len(labels)) <= 4
        for label in range(4):
            assert abs(sum(labels[index] == label for index in part) - 0.15 * labels.count(label)) <= 4


def test_one_large_group_is_trained_on():
    groups = ['large'] * 60 + [f'small{index // 3}' for index in range(57)]
    parts = split_indices([index % 3 for index in range(117)], [0.7, 0.15, 0.15], 0, groups)
    assert [len(part) for part in parts] == [81, 18, 18]
