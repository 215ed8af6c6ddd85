import numpy as np
import pytest
from PIL import Image

from vitdet_plugin.datasets import image_reader
from vitdet_plugin.datasets.checks.images import check_image, check_images

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


def only_fault(path, size=(60, 40)):
    (fault,) = check_image(str(path), size)
    assert str(path) in str(fault)
    return fault


def test_valid_images_have_no_findings(tmp_path):
    for name in ('a.jpg', 'a.png', 'a.bmp', 'a.webp'):
        assert check_image(str(write(tmp_path / name)), (60, 40)) == []


def test_missing_empty_text_and_truncated_files(tmp_path):
    assert only_fault(tmp_path / 'no.jpg').kind == 'is missing'
    (tmp_path / 'empty.jpg').touch()
    assert only_fault(tmp_path / 'empty.jpg').kind == 'is empty'
    (tmp_path / 'text.jpg').write_text('<html>404</html>')
    assert only_fault(tmp_path / 'text.jpg').kind == 'has no known image format'
    for name in ('cut.jpg', 'cut.png'):
        content = write(tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:len(content) // 2])
        assert only_fault(tmp_path / name).kind == 'cannot be decoded to its end'
        assert only_fault(tmp_path / name).level == 'error'


@pytest.mark.parametrize('name, mode, level, text', [
    ('a.jpg', 'CMYK', 'warning', 'CMYK'), ('a.png', 'I;16', 'warning', 'more than 8 bits'),
    ('a.jpg', 'L', 'note', 'grayscale'), ('a.png', 'RGBA', 'note', 'RGBA'), ('a.png', 'P', 'note', 'P,')])
def test_unusual_modes(tmp_path, name, mode, level, text):
    fault = only_fault(write(tmp_path / name, mode))
    assert fault.level == level and text in fault.kind


def test_sizes_and_orientation(tmp_path):
    assert '60 x 40, annotated 61 x 40' in only_fault(write(tmp_path / 'a.jpg'), (61, 40)).detail
    rotated = write(tmp_path / 'b.jpg', exif=exif(6))
    assert 'EXIF orientation that readers apply' in only_fault(rotated).detail and only_fault(rotated).level == 'error'
    assert only_fault(rotated, (40, 60)).kind == 'has an EXIF orientation'
    import cv2
    assert cv2.imread(str(rotated)).shape[:2] == (60, 40)  # height and width as mmcv reads them


def test_a_decompression_bomb_is_not_decoded(tmp_path, monkeypatch):
    for limit in ('MAX_PIXELS', 'MAX_SIDE'):
        monkeypatch.setattr(image_reader, limit, 50)
        assert only_fault(write(tmp_path / 'a.png')).kind == 'is implausibly large'


def test_processes_give_the_same_findings_in_order(tmp_path):
    paths = [str(write(tmp_path / f'{number}.png', 'L' if number % 2 else 'RGB')) for number in range(70)]
    sizes = [None, (9, 9)] * 35
    assert check_images(paths, sizes, jobs=2) == check_images(paths, sizes, jobs=1)
