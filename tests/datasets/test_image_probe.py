"""The probe of image files that checks, statistics and conversions use."""

import shutil
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from vitdet_plugin.datasets import image_reader
from vitdet_plugin.datasets.checks.images import check_image
from vitdet_plugin.datasets.conversion import read_image_size
from vitdet_plugin.datasets.image_probe import ImageProbe, probe_image
from vitdet_plugin.datasets.image_sets import ImageSet
from vitdet_plugin.datasets.set_stats import collect_stats


@pytest.fixture
def photo():
    rows, columns = np.mgrid[:60, :80]
    return (np.stack([rows * 3, columns * 3, 90 + 60 * np.sin(rows * columns / 200)], 2)).astype(np.uint8)


@pytest.fixture
def rotated(tmp_path, photo):
    """80 x 60 pixels as stored, 60 x 80 as read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / 'a b.jpg', exif=exif)
    return tmp_path / 'a b.jpg'


def stats_of(path, size):
    return collect_stats([ImageSet('a', path.parent, ['x'], [path.name], None, [[]], [size])]).splits[0]


def test_properties_of_an_image(rotated):
    probe = probe_image(rotated, fingerprints=True)
    assert (probe.width, probe.height, probe.mode, probe.is_rotated, probe.other_format) == (80, 60, 'RGB', True, '')
    assert probe.size_as_read == cv2.imread(str(rotated)).shape[1::-1] == (60, 80)
    assert probe.bytes == rotated.stat().st_size and probe.bits.shape == (256,) and len(probe.digest) == 32


def test_a_format_that_differs_from_the_suffix(tmp_path, photo):
    Image.fromarray(photo).convert('L').save(tmp_path / 'b.png')
    shutil.move(tmp_path / 'b.png', tmp_path / 'c.jpg')
    probe = probe_image(tmp_path / 'c.jpg')
    assert (probe.mode, probe.other_format, probe.digest, probe.bits) == ('L', 'PNG', None, None)


def test_unreadable_files_have_a_reason(tmp_path, photo):
    cv2.imwrite(str(tmp_path / 'half.jpg'), photo)
    content = (tmp_path / 'half.jpg').read_bytes()
    (tmp_path / 'half.jpg').write_bytes(content[:len(content) // 2])
    assert cv2.imread(str(tmp_path / 'half.jpg')) is not None  # training would read it, half of it gray
    (tmp_path / 'empty.jpg').write_bytes(b'')
    (tmp_path / 'text.jpg').write_text('not found')
    (tmp_path / 'folder.jpg').mkdir()
    reasons = [str(probe_image(tmp_path / f'{name}.jpg')) for name in ('half', 'empty', 'text', 'none', 'folder')]
    assert reasons[0].startswith('cannot be decoded to its end (') and 'truncated' in reasons[0]
    assert reasons[1:] == ['is empty', 'has no known image format', 'is missing', 'is a folder']
    assert isinstance(probe_image(tmp_path / 'half.jpg', decode=False), ImageProbe)


def test_checks_and_statistics_agree_on_unreadable_files(tmp_path, monkeypatch, photo):
    (tmp_path / 'text.jpg').write_text('not found')
    Image.fromarray(photo).save(tmp_path / 'large.png')
    monkeypatch.setattr(image_reader, 'MAX_PIXELS', 3000)  # fewer than 80 x 60
    for name in ('text.jpg', 'large.png', 'none.jpg'):
        (fault,) = check_image(str(tmp_path / name))
        assert stats_of(tmp_path / name, None).broken[name].startswith(fault.kind)


def test_sizes_are_compared_after_the_exif_orientation(rotated):
    for size, is_right in (((60, 80), True), ((60.0, 80.0), True), ((80, 60), False)):
        kinds = [fault.kind for fault in check_image(str(rotated), size)]
        assert (kinds == ['has an EXIF orientation']) == is_right
        assert (stats_of(rotated, size).wrong_sizes == []) == is_right
    assert read_image_size(rotated) == (60, 80)
    upside_down = Image.Exif()
    upside_down[0x0112] = 3
    with Image.open(rotated) as image:
        image.save(rotated.parent / 'c.jpg', exif=upside_down)
    assert stats_of(rotated.parent / 'c.jpg', (60, 80)).wrong_sizes == ['c.jpg: 80 x 60, annotated 60 x 80']


def test_threads_do_not_change_the_warning_filters(tmp_path, photo):
    names = [f'{number}.png' for number in range(40)]
    for name in names:
        Image.fromarray(photo).save(tmp_path / name)
    before = list(warnings.filters)
    collect_stats([ImageSet('a', tmp_path, ['x'], names, [0] * 40)], workers=8)
    assert warnings.filters == before
