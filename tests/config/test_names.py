import pytest

from vitdet_plugin.compat.packaged_configs import config_dir, shipped_configs
from vitdet_plugin.config import names
from vitdet_plugin.config.loading import load_config
from vitdet_plugin.config.names import MOVED_FOLDERS, find_config
from vitdet_plugin.errors import UserError

MINI = 'yolov5_convnext-mini_pafpn_demo'


@pytest.fixture(autouse=True)
def no_notice_printed_before():
    names._print_notice.cache_clear()


def test_a_name_a_file_and_a_missing_config():
    assert find_config('vitdet_demo') == str(shipped_configs()['vitdet_demo'])
    path = str(config_dir() / 'vitdet_100e.py')
    assert find_config(path) == path
    with pytest.raises(UserError, match=r'configs/vitdet_dmo.py does not exist \(did you mean vitdet_demo'):
        find_config('configs/vitdet_dmo.py')


@pytest.mark.parametrize('path', [
    f'configs/convnext_yolov5/{MINI}.py', f'convnext_yolov5/{MINI}.py', f'convnext_yolov5/{MINI}',
    f'/no/such/checkout/configs/convnext_yolov5/{MINI}.py'])
def test_a_moved_config_is_found_with_one_notice(path, capsys):
    for _ in range(2):
        found = find_config(path)
    assert found.endswith(f'configs/yolov5/{MINI}.py')
    out, err = capsys.readouterr()
    assert out == '' and err.splitlines() == [
        f'warning: config {path} has moved: use {found}. The old path works until the next release.']
    assert load_config(path).model.bbox_head.type == 'YOLOv5Head'


def test_a_moved_config_is_searched_in_its_own_checkout_first(tmp_path, capsys):
    (tmp_path / 'configs/yolov5').mkdir(parents=True)
    (tmp_path / 'configs/yolov5/mine.py').write_text('a = 1\n')
    assert find_config(f'{tmp_path}/configs/convnext_yolov5/mine.py') == f'{tmp_path}/configs/yolov5/mine.py'
    assert 'has moved' in capsys.readouterr().err


@pytest.mark.parametrize('variable', ['RANK', 'SLURM_PROCID', 'OMPI_COMM_WORLD_RANK'])
def test_only_rank_0_prints_the_notice(variable, monkeypatch, capsys):
    monkeypatch.setenv(variable, '1')
    find_config(f'convnext_yolov5/{MINI}.py')
    assert capsys.readouterr().err == ''


def test_an_unknown_config_in_a_moved_folder_is_an_error():
    with pytest.raises(UserError, match='does not exist'):
        find_config('configs/convnext_yolov5/no_such.py')


def test_a_base_that_moved_is_named_with_its_new_path(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(f"_base_ = '{config_dir()}/convnext_yolov5/{MINI}.py'\n")
    with pytest.raises(UserError, match=rf'does not exist.* It has moved: use .*configs/yolov5/{MINI}.py'):
        load_config(str(path))


def test_moved_folders_are_gone_and_their_targets_exist():
    for old, new in MOVED_FOLDERS.items():
        assert not (config_dir() / old).exists() and (config_dir() / new).is_dir()
