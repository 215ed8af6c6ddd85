"""Files that vitdet init writes: annotation files, tiles, config."""

import json
import re

import numpy as np
import pytest
from mmengine.config import Config

from tests.datasets.own_data.drawn_sets import CLASSES, CPU, class_set, drawn_set, tree_hash
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.datasets.checks.whole_set import check_config
from vitdet_plugin.datasets.own_data import tiles
from vitdet_plugin.datasets.own_data.config_text import MOST_LINES, comment_text
from vitdet_plugin.datasets.own_data.offers import MODELS
from vitdet_plugin.datasets.own_data.plan import Choices, make_plan
from vitdet_plugin.datasets.own_data.tiles import cut_images, starts
from vitdet_plugin.datasets.own_data.writer import check_out, default_out, first_line, recorded_options, write_plan
from vitdet_plugin.engine.check_schedule import check_schedule
from vitdet_plugin.engine.preflight import inspect_config
from vitdet_plugin.errors import UserError

WEIGHT_OPTION = {'model.backbone.init_cfg': None}


def _write(tmp_path, source, **choices):
    plan = make_plan(source, Choices(**{'model': 'tiny', **choices}), CPU)
    write_plan(plan, tmp_path / 'out', 'for a test')
    return plan, tmp_path / 'out'


@pytest.mark.parametrize('name, with_test', [*((name, False) for name in MODELS), ('yolov5-tiny', True),
                                             ('faster-rcnn-tiny', True), ('classifier-tiny', True)])
def test_the_config_of_every_model_is_short_loads_and_passes_the_checks(tmp_path, name, with_test):
    data, out = tmp_path / 'meine Bilder é', tmp_path / 'aus gabe ü'
    model = MODELS[name]
    if model.task == 'classify':
        source = class_set(data, 8)
        for index, image in enumerate(source.images):
            image.split = ('train', 'train', 'val', 'test')[index % 4] if with_test else None
    else:
        source = drawn_set(data, 16, split=(lambda index: ('train', 'train', 'val', 'test')[index % 4])
                           if with_test else None)
    before = tree_hash(data)
    plan = make_plan(source, Choices(model=name, task=model.task), CPU)
    assert write_plan(plan, out, 'for a test') == ['annotations', 'config.py']
    assert tree_hash(data) == before
    text = (out / 'config.py').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= MOST_LINES
    assert [text.count(f'\n{knob} = ') for knob in ('image_size', 'batch')] == [1, 1]
    assert text.count('\nmax_iters = ') + text.count('\nmax_epochs = ') == 1
    cfg = load_config(out / 'config.py', {'batch': 3, 'image_size': 96})
    assert cfg.train_dataloader.batch_size == 3 and "'LargeScaleJitter', 'image_size': 448" not in str(cfg)
    moved = load_config(out / 'config.py', {'image_root': '/moved/'})  # no _base_ has this variable
    for split in ('train', 'val', 'test'):
        assert re.findall("'data_root': '(.*?)'", str(moved[f'{split}_dataloader'])) == ['/moved/']
    if model.task != 'classify':  # in a short trial the warm-up is short too
        warm_up, cosine = load_config(out / 'config.py', {'max_iters': 12}).param_scheduler
        assert (warm_up['end'], cosine['begin'], cosine.get('end')) == (2, 2, None)
    if model.weights:
        cfg.model.backbone.init_cfg = None
    assert cfg.work_dir == str(out / 'run')
    # few classes and images: some findings of the checks would be about those only
    assert inspect_config(cfg, ('train', 'val', 'test')) == []
    assert not [row for split in ('train', 'val', 'test') for row in check_config(str(out / 'config.py'), split)
                if row[0] not in ('read', 'note')]
    assert 'vertical' not in str(cfg.train_dataloader)
    if model.task != 'classify':  # also of a trial: the warm-up is a part of the training
        for length in (2, 30, 5000):
            cfg = load_config(out / 'config.py', {'max_iters': length})
            warm_up, cosine = cfg.param_scheduler
            assert warm_up.end == cosine.begin <= max(1, length // 5) and not check_schedule(cfg)
    if name.endswith('rcnn-tiny'):  # its backbone has to learn more than a pre-trained one
        assert cfg.optim_wrapper.paramwise_cfg.get('backbone_lr_mult', 1.0) == 1.0


@pytest.mark.parametrize('out', ['out', 'out {{_base_.y}}'])
def test_names_that_look_like_variables_of_a_config(tmp_path, out):
    names = ['{{ fileDirname }}', '{{_base_.x}} {{$HOME:a}}']
    source = class_set(tmp_path / names[0] / names[1])
    source.classes, old = names, source.classes
    for image in source.images:
        image.label = names[old.index(image.label)]
    plan = make_plan(source, Choices(model='classifier-tiny', task='classify'), CPU)
    data, other = tmp_path / names[0], tmp_path / names[1]
    assert recorded_options(tmp_path / out, data) is None
    options = '--group-pattern (\\d+){{_base_.x}}'
    write_plan(plan, tmp_path / out, first_line(data, '(class-folders): 9 images', options))
    assert recorded_options(tmp_path / out, data) == comment_text(options)
    assert recorded_options(tmp_path / out, other) is None
    cfg = load_config(tmp_path / out / 'config.py')
    assert list(cfg.train_dataloader.dataset.metainfo.classes) == names and cfg.work_dir == str(tmp_path / out / 'run')
    assert cfg.train_dataloader.dataset.data_root == f'{tmp_path / names[0] / names[1]}/'
    assert inspect_config(cfg, ('train', 'val', 'test')) == []
    cfg.dump(tmp_path / 'again.py')
    assert Config.fromfile(tmp_path / 'again.py').train_dataloader == cfg.train_dataloader


def test_objects_come_back_as_they_were(tmp_path):
    source = drawn_set(tmp_path / 'data', 10)
    size = [10, 4]
    source.images[0].objects[0].mask = dict(size=size, counts=[5, 5, 30])  # as a reader gives it
    source.images[1].objects[0].is_crowd = True
    plan, out = _write(tmp_path, source, val_fraction=0.3)
    found = {}
    for split in ('train', 'val'):
        content = json.loads((out / 'annotations' / f'{split}.json').read_text(encoding='utf-8'))
        assert [each['name'] for each in content['categories']] == list(CLASSES)
        names = {each['id']: each['file_name'] for each in content['images']}
        for each in content['annotations']:
            found.setdefault(names[each['image_id']], []).append(each)
    for image in source.images:
        for was, now in zip(image.objects, found[image.path.name]):
            x, y, width, height = now['bbox']
            np.testing.assert_allclose((x, y, x + width, y + height), was.box, atol=1e-3)
            assert CLASSES[now['category_id'] - 1] == was.name
            assert now['segmentation'] == was.mask and now['iscrowd'] == was.is_crowd


def test_objects_without_a_mask_get_their_box_for_a_mask_model(tmp_path):
    source = drawn_set(tmp_path / 'data', 10)
    source.images[0].objects[0].mask = None
    _, out = _write(tmp_path, source, task='segment')
    content = [json.loads(path.read_text(encoding='utf-8')) for path in (out / 'annotations').glob('*.json')]
    assert all(len(each['segmentation'][0]) == 8 for one in content for each in one['annotations'])


def test_lists_of_classes(tmp_path):
    _, out = _write(tmp_path, class_set(tmp_path / 'data', 5))
    lines = (out / 'annotations' / 'val.txt').read_text(encoding='utf-8').splitlines()
    assert sorted(line.rpartition(' ')[2] for line in lines) == ['0', '1']
    assert (out / 'annotations' / 'classes.txt').read_text(encoding='utf-8').splitlines() == list(CLASSES)
    assert any('Grüne Limette/' in line and ' x.png ' in line for line in lines)


def test_problems_are_written_with_file_and_reason(tmp_path):
    source = drawn_set(tmp_path / 'data', 5)
    source.add_object(source.images[0], 'apple', tmp_path / 'a.xml', 12, box=(5, 5, 5, 9))
    _, out = _write(tmp_path, source)
    assert (out / 'problems.txt').read_text().startswith(f'{tmp_path}/a.xml:12: apple: box (5, 5, 5, 9) has no area')


@pytest.mark.parametrize('length, side, expected', [(100, 100, [0]), (60, 100, [0]), (180, 100, [0, 80]),
                                                    (300, 100, [0, 67, 133, 200])])
def test_tiles_overlap_and_cover_an_axis(length, side, expected):
    found = starts(length, side)
    assert found == expected
    assert found[-1] + side >= length and all(b - a <= 0.8 * side for a, b in zip(found, found[1:]))


def test_tiles_keep_the_resolution_and_every_small_object(tmp_path):
    source = drawn_set(tmp_path / 'data', 6, size=(300, 200))
    _, out = _write(tmp_path, source, tile=96)
    assert 'image_size = 96 ' in (out / 'config.py').read_text()
    out = out.rename(tmp_path / 'moved')
    cfg = load_config(out / 'config.py')
    assert inspect_config(cfg, ('train', 'val')) == []
    assert not [row for split in ('train', 'val') for row in check_config(str(out / 'config.py'), split)
                if row[0] not in ('read', 'note')]
    content = json.loads((out / 'annotations' / 'val.json').read_text(encoding='utf-8'))
    assert len(content['images']) == 4 * 3  # one image
    whole = [each for each in content['annotations'] if each['bbox'][2:] == [16.0, 16.0]]
    assert len({each['category_id'] for each in whole}) in (1, 2)


def test_an_image_is_read_once_for_its_tiles(tmp_path, monkeypatch):
    source, read = drawn_set(tmp_path / 'set', 4), []
    monkeypatch.setattr(tiles, 'decode', lambda path, decode=tiles.decode: read.append(path) or decode(path))
    cut = cut_images(source.images, 32, 'train', keep_empty=True)
    tiles.write_tiles(cut, tmp_path / 'out')
    assert len(cut) > 4 and read == [image.path for image in source.images]
    assert sum(file.is_file() for file in (tmp_path / 'out').rglob('*')) == len(cut)


def test_masks_are_cut_with_their_tile(tmp_path):
    from pycocotools import mask as operations
    source = drawn_set(tmp_path / 'data', 1, size=(160, 100), side=70)
    image = source.images[0]
    bitmap = np.zeros((100, 160), np.uint8)
    bitmap[6:76, 4:74] = 1
    encoded = operations.encode(np.asfortranarray(bitmap))
    rle = dict(size=[100, 160], counts=encoded['counts'].decode())
    for mask in (image.objects[0].mask, rle):
        image.objects[0].mask = mask
        first = cut_images([image], 60, 'train', True)[0]
        cut = first.objects[0].mask
        if isinstance(cut, list):
            cut = operations.merge(operations.frPyObjects(cut, 60, 60))
        assert (operations.decode(cut) == bitmap[:60, :60]).all()
        assert first.objects[0].box == (4, 6, 60, 60)


def test_nothing_is_overwritten_and_the_source_is_never_written_to(tmp_path):
    data = tmp_path / 'data'
    (data / 'Annotations').mkdir(parents=True)
    assert default_out(data, tmp_path) == tmp_path / 'runs' / 'data'
    assert default_out(data, data) == tmp_path / 'data-vitdet'
    for name, expected in (('train.json', 'data'), ('Annotations/instances_train.json', 'data'),
                           ('_annotations.coco.json', 'data'), ('cells.csv', 'cells')):
        (data / name).touch()
        assert default_out(data / name, tmp_path) == tmp_path / 'runs' / expected
    with pytest.raises(UserError, match='is inside the data set'):
        check_out(data / 'x', data, '--out')
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'a').touch()
    with pytest.raises(UserError, match='exists; choose another'):
        check_out(tmp_path / 'full', data, '--out')


def test_an_interruption_leaves_nothing(tmp_path, monkeypatch):
    plan = make_plan(drawn_set(tmp_path / 'data', 4), Choices(model='tiny'), CPU)

    def stop(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr('vitdet_plugin.datasets.own_data.writer.config_text', stop)
    with pytest.raises(KeyboardInterrupt):
        write_plan(plan, tmp_path / 'out', '')
    assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_a_path_that_cannot_be_part_of_a_config_text(tmp_path):
    plan = make_plan(drawn_set(tmp_path / "it's {{ x }}", 4), Choices(model='tiny'), CPU)
    out = tmp_path / "o'ut {a}"
    write_plan(plan, out, 'for "it\'s"')
    assert load_config(out / 'config.py').work_dir == str(out / 'run')
