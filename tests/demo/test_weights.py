"""``vitdet demo --weights``: the config, and the file that the training starts from."""

import pytest
import torch

from vitdet_plugin.cli import demo


class Started(Exception):
    pass


@pytest.fixture
def training(monkeypatch):
    """Run the demo up to the start of the training and return its words."""
    def stop(*words, cwd, ranks=1):
        if words[:2] != ('demo', 'make-set'):
            raise Started(*map(str, words))
    monkeypatch.setattr(demo, 'vitdet', stop)

    def run(*words):
        with pytest.raises(Started) as started:
            demo.demo_command(demo.build_parser().parse_args([*map(str, words), '--ranks', '1']))
        return list(started.value.args)
    return run


def test_without_weights_nothing_changes(training, tmp_path):
    words = training('--out', tmp_path)
    assert words[0] == 'train' and words[1].endswith('configs/vitdet_demo.py') and '--weights' not in words


def test_with_weights(training, tmp_path, monkeypatch):
    torch.save({}, tmp_path / 'weights.pth')
    monkeypatch.chdir(tmp_path)
    words = training('--out', tmp_path / 'out', '--weights', 'weights.pth')
    assert words[1].endswith('configs/plain_vit/mask-rcnn_dinov2-s_300it_demo.py')
    assert words[words.index('--weights') + 1] == str(tmp_path / 'weights.pth')  # the training runs in another folder
    words = training('vitdet_demo', '--out', tmp_path / 'out', '--weights', tmp_path / 'weights.pth')
    assert words[1].endswith('configs/vitdet_demo.py') and str(tmp_path / 'weights.pth') in words


def test_an_unknown_name_is_refused_before_anything_is_written(tmp_path, capsys):
    assert demo.main(['--out', str(tmp_path / 'out'), '--weights', 'dinov2_s15']) != 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith('error: dinov2_s15 does not exist') and 'did you mean dinov2_s14' in line
    assert not (tmp_path / 'out').exists()
