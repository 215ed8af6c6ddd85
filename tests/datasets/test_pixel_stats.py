import json

import cv2
import numpy as np
import pytest

from tests.datasets.tiny_classes import write_class_folders
from tests.end_to_end.tiny_set import load_tool, write_tiny_set
from vitdet_plugin.datasets import pixel_stats as module
from vitdet_plugin.datasets.pixel_stats import channel_histograms, pixel_stats
from vitdet_plugin.errors import UserError


@pytest.fixture
def image_files(tmp_path):
    """Different sizes and brightness, so that a mean over images differs from one over pixels."""
    random, paths = np.random.default_rng(0), []
    for number, (height, width, low) in enumerate([(10, 20, 0), (30, 5, 200), (7, 7, 100)]):
        paths.append(tmp_path / f'{number}.png')
        cv2.imwrite(str(paths[-1]), random.integers(low, low + 56, (height, width, 3), dtype=np.uint8))
    return paths


def test_equal_to_numpy_over_all_pixels(image_files):
    pixels = np.concatenate([cv2.imread(str(path))[..., ::-1].reshape(-1, 3) for path in image_files]).astype(float)
    found = pixel_stats(image_files, workers=2)
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.std, pixels.std(0), rtol=1e-12)
    assert (found.pixels, found.images) == (len(pixels), 3)
    mean_of_stds = np.mean([cv2.imread(str(path)).std((0, 1))[::-1] for path in image_files], 0)
    assert (found.std > 2 * mean_of_stds).all()


def test_counting_in_parts_gives_the_same_result(image_files, monkeypatch):
    whole = channel_histograms(image_files[1])
    monkeypatch.setattr(module, '_CHUNK_PIXELS', 12)
    assert (channel_histograms(image_files[1]) == whole).all() and whole.sum() == 3 * 30 * 5


def test_unreadable_images_are_named_and_more_than_one_percent_is_an_error(image_files, tmp_path):
    bad = tmp_path / 'bad.png'
    bad.write_bytes(b'')
    with pytest.raises(UserError, match='1 of 4 images cannot be read .*bad.png'):
        pixel_stats([*image_files, bad])
    found = pixel_stats([*image_files * 40, bad])
    assert found.unreadable == [str(bad)] and found.images == 120


def test_command_reads_only_the_training_split(tmp_path, capsys):
    write_class_folders(tmp_path / 'a set' / 'train', per_class=2)
    write_class_folders(tmp_path / 'a set' / 'val', per_class=3, seed=1)
    out = tmp_path / 'new' / 'stats.json'
    assert load_tool('dataset/mean_std').main([str(tmp_path / 'a set'), '--out', str(out)]) == 0
    found = json.loads(out.read_text())
    assert found['images'] == 6
    printed = capsys.readouterr().out
    config = {}
    exec(printed.split('for the config:\n')[1], config)
    np.testing.assert_allclose(config['data_preprocessor']['std'], found['std'], atol=1e-3)


def test_command_on_coco(tmp_path, capsys):
    write_tiny_set(tmp_path, images=3)
    command = load_tool('dataset/mean_std').main
    assert command([str(tmp_path / 'images'), '--ann', str(tmp_path / 'coco.json')]) == 0
    assert 'bgr_to_rgb' in capsys.readouterr().out
    assert command([str(tmp_path / 'images')]) == 2
    assert capsys.readouterr().err.startswith('error: ')
