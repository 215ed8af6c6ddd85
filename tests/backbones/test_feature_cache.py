"""Files of cached features: interrupted writing, damage, concurrent runs, full disks, random transforms."""

import errno
import warnings

import pytest
import torch

from vitdet_plugin.backbones import feature_cache
from vitdet_plugin.backbones.feature_cache import FeatureCache
from vitdet_plugin.errors import UserError

RECORD = 16 + 4 * 3 + 4


def look_up(cache, images):
    """Features are the means of the channels; returns them and the number of images that were computed."""
    computed = []

    def compute(images):
        computed.append(len(images))
        return images.mean((2, 3))

    features = cache.features(images, lambda: dict(weight=torch.ones(2)), compute)
    torch.testing.assert_close(features, images.mean((2, 3)))
    return sum(computed)


@pytest.fixture
def images():
    return torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))


def test_one_file_whose_name_depends_on_weights_and_identity(tmp_path, images):
    for identity in ('a', 'b'):
        cache = FeatureCache(tmp_path / 'new folder', 3, identity)
        assert (look_up(cache, images), look_up(cache, images)) == (4, 0)
    files = list((tmp_path / 'new folder').iterdir())
    assert [file.stat().st_size for file in files] == [4 * RECORD] * 2


def test_equal_images_of_a_batch_are_computed_once(tmp_path, images):
    assert look_up(FeatureCache(tmp_path, 3, ''), images[[0, 1, 0, 0]]) == 2


def test_a_record_that_was_cut_off_is_computed_again(tmp_path, images):
    look_up(FeatureCache(tmp_path, 3, ''), images)
    file, = tmp_path.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-5])
    assert look_up(FeatureCache(tmp_path, 3, ''), images) == 1
    assert file.read_bytes() == content


def test_a_damaged_record_is_computed_again(tmp_path, images):
    look_up(FeatureCache(tmp_path, 3, ''), images)
    file, = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[RECORD + 20] ^= 1
    file.write_bytes(content)
    assert look_up(FeatureCache(tmp_path, 3, ''), images) == 1
    assert look_up(FeatureCache(tmp_path, 3, ''), images) == 0


def test_concurrent_runs_write_to_files_of_their_own(tmp_path, images):
    first, second = FeatureCache(tmp_path, 3, ''), FeatureCache(tmp_path, 3, '')
    assert (look_up(first, images[:2]), look_up(second, images[1:])) == (2, 2)  # it reads what the first one wrote
    del first, second
    assert len(list(tmp_path.iterdir())) == 2
    assert look_up(FeatureCache(tmp_path, 3, ''), images) == 0


@pytest.mark.parametrize('limit', [None, RECORD])
def test_a_full_disk_or_file_ends_the_writing_with_one_warning(tmp_path, images, monkeypatch, limit):
    cache = FeatureCache(tmp_path, 3, '')
    look_up(cache, images[:1])
    if limit:
        monkeypatch.setattr(feature_cache, 'MAX_BYTES', limit)
    else:
        def write(data):
            raise OSError(errno.ENOSPC, 'No space left on device')
        store, = cache._stores.values()
        monkeypatch.setattr(store, 'file', type('Full', (), dict(name=store.file.name, write=staticmethod(write)))())
    with pytest.warns(UserWarning, match='further features are not stored') as warned:
        assert (look_up(cache, images), look_up(cache, images)) == (3, 3)
    assert len(warned) == 1


def test_random_transforms_are_reported_once(tmp_path):
    cache = FeatureCache(tmp_path, 3, '')
    with pytest.warns(UserWarning, match='none of 6 images occurred twice') as warned:
        for _ in range(5):
            look_up(cache, torch.randn(2, 3, 2, 2))
            cache.start_pass()
            cache.start_pass()
    assert len(warned) == 1


def test_repeated_images_are_not_reported(tmp_path, images):
    cache = FeatureCache(tmp_path, 3, '')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for _ in range(5):
            look_up(cache, images)
            cache.start_pass()


def test_a_folder_that_cannot_be_used(tmp_path, images):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='feature_cache: .*file cannot be used .*; choose another folder'):
        look_up(FeatureCache(tmp_path / 'file', 3, ''), images)
