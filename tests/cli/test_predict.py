"""``vitdet predict``: drawn images and a record of the detections; one line for mistakes."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from tests.end_to_end.tiny_set import CONFIG, write_tiny_set
from vitdet_plugin.cli import predict


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('predict')
    write_tiny_set(folder / 'set', images=2)
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    torch.save(dict(state_dict=MODELS.build(Config.fromfile(CONFIG).model).state_dict()), folder / 'w.pth')
    return folder


def test_draws_and_records(folder, capsys):
    status = predict.main([str(CONFIG), str(folder / 'w.pth'), str(folder / 'set/images'), '--out',
                           str(folder / 'out'), '--score_thr', '0.1', '--device', 'cpu'])
    assert status == 0
    assert sorted(file.name for file in (folder / 'out').iterdir()) == ['001.jpg', '002.jpg', 'predictions.json']
    record = json.loads((folder / 'out' / 'predictions.json').read_text())
    assert [len(found['boxes']) for found in record] == [len(found['masks']) for found in record]
    assert all(score >= 0.1 for found in record for score in found['scores'])
    assert capsys.readouterr().out.splitlines()[-1] == (
        f'2 images in {folder}/out, boxes and masks in {folder}/out/predictions.json')


def test_files_that_cannot_be_read_are_named_and_the_others_predicted(folder, tmp_path, capsys):
    for name, content in [('x/im.jpg', None), ('y/im.jpg', None), ('y/cut.jpg', 300), ('y/._im.jpg', 9)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((folder / 'set/images/001.jpg').read_bytes()[:content])
    out = tmp_path / 'out'
    words = [str(CONFIG), str(folder / 'w.pth'), '--device', 'cpu', '--out', str(out)]
    assert predict.main([*words, str(tmp_path)]) == 1
    assert sorted(str(file.relative_to(out)) for file in out.rglob('*.jpg')) == ['x/im.jpg', 'y/im.jpg']
    assert len(json.loads((out / 'predictions.json').read_text())) == 2
    errors = capsys.readouterr().err
    assert 'y/cut.jpg cannot be read as an image' in errors and 'y/._im.jpg cannot be read' in errors
    assert errors.splitlines()[-1] == '2 of 4 images were left out: they cannot be read'
    assert predict.main([*words, str(tmp_path / 'y' / 'cut.jpg')]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f'error: {tmp_path}/y/cut.jpg cannot be read')
    assert predict.main([*words, str(tmp_path / 'y' / '*cut.jpg'), str(tmp_path / 'y' / '._im.jpg')]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == 'error: none of the 2 images can be read'


def test_only_what_the_model_predicts_is_announced(folder, tmp_path, capsys):
    options = ['model.type=FasterRCNN', 'model.roi_head.mask_head=None', 'model.roi_head.mask_roi_extractor=None']
    state = torch.load(folder / 'w.pth', weights_only=True)['state_dict']
    torch.save({name: value for name, value in state.items() if 'mask_head' not in name}, tmp_path / 'boxes.pth')
    assert predict.main([str(CONFIG), str(tmp_path / 'boxes.pth'), str(folder / 'set/images/001.jpg'), '--out',
                         str(tmp_path / 'out'), '--cfg-options', *options]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f'boxes in {tmp_path}/out/predictions.json')


def test_a_folder_with_the_name_of_a_shipped_config_is_used(folder, tmp_path, monkeypatch, recwarn):
    (tmp_path / 'vitdet_demo').mkdir()
    (tmp_path / 'vitdet_demo' / 'best_coco_bbox_mAP_iter_2.pth').write_bytes((folder / 'w.pth').read_bytes())
    Config.fromfile(CONFIG).dump(tmp_path / 'vitdet_demo' / 'tiny.py')
    monkeypatch.chdir(tmp_path)
    assert predict.main(['vitdet_demo', str(folder / 'set/images/001.jpg'), '--device', 'cpu', '--no-draw']) == 0
    assert not [each for each in recwarn if 'random' in str(each.message)]


def test_an_error_is_one_line(folder, capsys):
    status = predict.main([str(CONFIG), str(folder / 'w.pth'), str(folder / 'none'), '--out', 'x'])
    assert status == 2
    assert capsys.readouterr().err == f'error: {folder}/none does not exist; give an image or a folder of images\n'


def test_no_object_at_all_is_explained(folder, tmp_path, capsys):
    words = [str(CONFIG), str(folder / 'w.pth'), str(folder / 'set/images'), '--no-draw', '--score-thr', '0.999']
    assert predict.main([*words, '--out', str(tmp_path / 'out')]) == 0
    assert 'no object has a score of 0.999 or more; --score-thr 0.17 keeps more of them' in capsys.readouterr().err


def test_a_folder_with_results_of_an_earlier_run_is_named(folder, tmp_path, capsys):
    out = tmp_path / 'out'
    words = [str(CONFIG), str(folder / 'w.pth'), str(folder / 'set/images/001.jpg'), '--device', 'cpu']
    words += ['--out', str(out)]
    assert predict.main(words) == 0 and 'earlier run' not in capsys.readouterr().err
    assert predict.main(words) == 0
    shown = capsys.readouterr().err
    assert f'warning: {out} has 2 files of an earlier run; those of the same names are replaced' in shown
