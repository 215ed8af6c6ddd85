import numpy as np
import pytest
from PIL import Image

from vitdet_plugin.datasets.checks.images import inspect_image, leaves_folder

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def write(path, mode='RGB', **options):
    image = Image.fromarray(PIXELS).convert(mode) if mode != 'I;16' else Image.fromarray(
        PIXELS[..., 0].astype(np.uint16) * 200)
    image.save(path, **options)
    return path


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def only(path, size=(60, 40)):
    (fault,) = inspect_image(str(path), size)
    assert str(path) in str(fault)
    return fault


def test_sound_pictures(tmp_path):
    for name in ('a.jpg', 'a.png', 'a.bmp', 'a.webp'):
        assert inspect_image(str(write(tmp_path / name)), (60, 40)) == []


def test_missing_empty_text_and_cut_off(tmp_path):
    assert only(tmp_path / 'no.jpg').kind == 'is missing'
    (tmp_path / 'empty.jpg').touch()
    assert only(tmp_path / 'empty.jpg').kind == 'is empty'
    (tmp_path / 'text.jpg').write_text('<html>404</html>')
    assert only(tmp_path / 'text.jpg').kind == 'is no image'
    for name in ('cut.jpg', 'cut.png'):
        content = write(tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:len(content) // 2])
        assert only(tmp_path / name).kind == 'cannot be decoded to its end'
        assert only(tmp_path / name).level == 'error'


@pytest.mark.parametrize('name, mode, level, says', [
    ('a.jpg', 'CMYK', 'warning', 'CMYK'), ('a.png', 'I;16', 'warning', 'more than 8 bits'),
    ('a.jpg', 'L', 'note', 'greyscale'), ('a.png', 'RGBA', 'note', 'RGBA'), ('a.png', 'P', 'note', 'P,')])
def test_unusual_pixels(tmp_path, name, mode, level, says):
    fault = only(write(tmp_path / name, mode))
    assert fault.level == level and says in fault.kind


def test_sizes_and_orientation(tmp_path):
    assert '60 x 40, annotated 61 x 40' in only(write(tmp_path / 'a.jpg'), (61, 40)).detail
    turned = write(tmp_path / 'b.jpg', exif=exif(6))
    assert 'EXIF orientation that readers apply' in only(turned).detail and only(turned).level == 'error'
    assert only(turned, (40, 60)).kind == 'has an EXIF orientation'
    import cv2
    assert cv2.imread(str(turned)).shape[:2] == (60, 40)  # what mmcv's reader makes of it: 40 wide, 60 high


def test_an_image_bomb_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
    assert only(write(tmp_path / 'a.png')).kind == 'is implausibly large'


def test_names_that_leave_the_folder():
    assert [name for name in ('a.jpg', 'b/../a.jpg', '../a.jpg', 'b/../../a.jpg', '/a.jpg', 'C:\\a.jpg')
            if leaves_folder(name)] == ['../a.jpg', 'b/../../a.jpg', '/a.jpg', 'C:\\a.jpg']
