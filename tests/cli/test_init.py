"""``vitdet init DATA``, and ``train``, ``test``, ``report`` with the folder that it writes."""

import json

import pytest

from tests.datasets.own_data.drawn_sets import class_set, drawn_set, tree_hash
from tests.end_to_end.tiny_set import write_tiny_set
from vitdet_plugin.cli.main import main
from vitdet_plugin.config.names import find_config
from vitdet_plugin.datasets import formats, image_probe
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.errors import UserError


@pytest.fixture
def as_format(monkeypatch):
    """Let a function stand for the only known format."""
    def use(read):
        drawn = Format('drawn', 'images that the test draws', lambda tree: f'{len(tree.images)} drawn images',
                       lambda tree: read(tree.root))
        monkeypatch.setattr(formats, 'known_formats', lambda: (drawn,))
    return use


def test_from_a_coco_export_to_a_report(folder, capsys, monkeypatch):
    data = write_tiny_set(folder / 'meine Äpfel', images=10)
    before = tree_hash(data)
    decoded = []
    probe = image_probe._probe
    monkeypatch.setattr(image_probe, '_probe', lambda image, path, decode, *more: (
        decoded.append(path.name) if decode else None, probe(image, path, decode, *more))[1])
    assert main(['init', str(data), '--model', 'tiny', '--iters', '2', '--batch', '2', '--image-size', '64']) == 0
    assert len(decoded) == len(set(decoded)) == 10  # once, for fingerprints and checks
    shown = capsys.readouterr().out
    out = folder / 'runs' / 'meine Äpfel'
    assert 'format     coco: ' in shown and 'segment: masks on' in shown and '8 train, 2 val' in shown
    assert "vitdet train 'runs/meine Äpfel'" in shown and 'no errors' in shown
    assert sorted(path.name for path in out.iterdir()) == ['annotations', 'config.py']

    assert main(['test', str(out)]) == 2
    assert 'holds no checkpoint' in capsys.readouterr().err
    assert main(['train', str(out), '--cfg-options', 'train_dataloader.num_workers=0',
                 'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
                 'val_dataloader.persistent_workers=False']) == 0
    names = {path.name for path in (out / 'run').iterdir()}
    assert {'iter_2.pth', 'last_checkpoint', 'config.py'} <= names and any(name.startswith('best') for name in names)
    log = next((out / 'run').glob('*/vis_data/scalars.json'))
    assert sum('coco/bbox_mAP' in line for line in log.read_text().splitlines()) == 2  # a point for every evaluation

    assert main(['test', str(out), '--out', 'found.json']) == 0
    assert main(['report', str(out / 'run')]) == 0
    page = (out / 'run' / 'report' / 'report.html').read_text()
    assert 'meine Äpfel · instance segmentation' in page and 'Activation maps' in page and 'Left out' not in page
    assert main(['curves', str(out), '--out', 'curves.png']) == 0
    assert tree_hash(data) == before
    assert main(['init', str(data), '--model', 'tiny']) == 2
    assert 'exists; choose another --out' in capsys.readouterr().err


@pytest.mark.parametrize('model, kind', [('yolov5-tiny', 'detect'), ('tiny', 'classify')])
def test_other_models_train(folder, as_format, model, kind):
    data = folder / 'data'
    source = class_set(data, 5) if kind == 'classify' else drawn_set(data, 8)
    as_format(lambda root: source)
    assert main(['init', str(data), '--model', model, '--task', kind, '--epochs', '1', '--batch', '4',
                 '--image-size', '64']) == 0
    assert main(['train', 'runs/data', '--cfg-options', 'train_dataloader.num_workers=0',
                 'train_dataloader.persistent_workers=False', 'val_dataloader.num_workers=0',
                 'val_dataloader.persistent_workers=False']) == 0
    assert any((folder / 'runs' / 'data' / 'run').glob('best*.pth'))


def test_a_dry_run_prints_the_plan_and_writes_nothing(folder, as_format, capsys):
    source = drawn_set(folder / 'data', 6)
    source.add_object(source.images[0], ' ', folder / 'data' / 'a.txt', 3, box=(1, 1, 9, 9))
    as_format(lambda root: source)
    before = tree_hash(folder)
    assert main(['init', 'data', '--dry-run', '--model', 'tiny']) == 0
    shown = capsys.readouterr().out
    for subject in ('format', 'task', 'classes', 'splits', 'model', 'size', 'anchors', 'augment', 'batch', 'length',
                    'evaluation'):
        assert f'\n{subject} ' in f'\n{shown}', subject
    assert '1 object or file could not be converted:' in shown and 'a.txt:3: an object without a class name' in shown
    assert f'the folder would be {folder}/runs/data' in shown
    assert tree_hash(folder) == before


def test_what_could_not_be_converted_is_counted_and_the_rest_is_used(folder, as_format, capsys):
    source = drawn_set(folder / 'data', 6)
    for line in range(1, 9):
        source.add_object(source.images[0], 'apple', folder / 'data' / 'a.txt', line, box=(9, 9, 1, 1))
    as_format(lambda root: source)
    assert main(['init', 'data', '--model', 'tiny', '--out', 'new']) == 0
    shown = capsys.readouterr().out
    assert '8 objects or files could not be converted, listed in new/problems.txt:' in shown and '… and 3 more' in shown
    assert len((folder / 'new' / 'problems.txt').read_text().splitlines()) == 8


@pytest.mark.parametrize('words, message', [
    (['none'], 'none does not exist; give the folder of a data set'),
    (['data', '--out', 'data/x'], 'is inside the data set'), (['data', '--batch', '0'], '--batch 0: give a number'),
    (['data', '--val-fraction', '1'], '--val-fraction 1: give a share'),
    (['data', '--format', 'other'], '--format other: not one of drawn')])
def test_mistakes_are_one_line(folder, as_format, capsys, words, message):
    as_format(lambda root: drawn_set(root, 3))
    (folder / 'data').mkdir()
    assert main(['init', *words]) == 2
    error = capsys.readouterr().err
    assert error.count('error: ') == 1 and message in error
    assert [path.name for path in folder.iterdir()] == ['data']


def test_nothing_usable_is_refused(folder, as_format, capsys):
    (folder / 'data').mkdir()
    (folder / 'data' / 'a.jpg').write_bytes(b'no image')
    source = SourceSet('drawn')
    source.add_image(folder / 'data' / 'a.jpg')
    as_format(lambda root: source)
    assert main(['init', 'data']) == 2
    error = capsys.readouterr().err
    assert 'no image of the data set can be used; the first problems:' in error and 'a.jpg' in error


def test_errors_of_the_checks_are_the_exit_status(folder, as_format, capsys, monkeypatch):
    as_format(lambda root: drawn_set(folder / 'data', 6))
    (folder / 'data').mkdir()
    monkeypatch.setattr('vitdet_plugin.datasets.checks.whole_set.check_config',
                        lambda config, split, *more: [('error', 'a fault of an image', f'{split}.jpg')])
    assert main(['init', 'data', '--model', 'tiny']) == 2
    shown = capsys.readouterr()
    assert 'error: 2 x a fault of an image: train.jpg; val.jpg' in shown.out and 'vitdet train runs/data' in shown.out
    assert shown.err.startswith('error: the checks above found 2 errors: correct the data')


def test_configs_of_folders(folder):
    (folder / 'a').mkdir()
    with pytest.raises(UserError, match='holds no config'):
        find_config('a')
    (folder / 'a' / 'x.py').write_text('')
    assert find_config('a') == 'a/x.py'
    (folder / 'a' / 'y.py').write_text('')
    with pytest.raises(UserError, match='holds 2 configs'):
        find_config('a')
    (folder / 'a' / 'config.py').write_text('')
    assert find_config('a') == 'a/config.py'


def test_the_report_needs_a_folder_for_a_config_alone(folder, capsys):
    assert main(['report', 'vitdet_demo']) == 2
    assert 'vitdet_demo is a config; give a checkpoint after it' in capsys.readouterr().err
    (folder / 'w.pth').write_text(json.dumps({}))
    assert main(['report', 'vitdet_demo', 'w.pth']) == 2
    assert '--out is missing' in capsys.readouterr().err


def test_the_config_of_a_classifier_is_checked_without_a_warning(folder, as_format, capsys):
    class_set(folder / 'data', 9)
    as_format(lambda root: class_set(root, 9))
    assert main(['init', 'data', '--model', 'tiny', '--image-size', '64']) == 0
    assert main(['check', 'runs/data']) == 0
    shown = capsys.readouterr()
    assert 'warning' not in shown.err + shown.out and 'no errors' in shown.out
