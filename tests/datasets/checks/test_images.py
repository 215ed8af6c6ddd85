import cv2
import numpy as np
import pytest
from PIL import Image

from tests.datasets.image_writer import exif, write_deep, write_rotated
from vitdet_plugin.datasets import image_reader
from vitdet_plugin.datasets.checks.images import DEEP, check_image, check_images
from vitdet_plugin.datasets.image_reader import ImageReader

OPENCV_5 = int(cv2.__version__.partition('.')[0]) >= 5
PIXELS = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)


def write(path, mode='RGB', **options):
    image = Image.fromarray(PIXELS).convert(mode) if mode != 'I;16' else Image.fromarray(
        PIXELS[..., 0].astype(np.uint16) * 200)
    image.save(path, **options)
    return path


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
    assert cv2.imread(str(rotated)).shape[:2] == (60, 40)  # height and width as mmcv reads them


def test_a_decompression_bomb_is_not_decoded(tmp_path, monkeypatch):
    for limit in ('MAX_PIXELS', 'MAX_SIDE'):
        monkeypatch.setattr(image_reader, limit, 50)
        assert only_fault(write(tmp_path / 'a.png')).kind == 'is implausibly large'


def test_processes_give_the_same_findings_in_order(tmp_path):
    paths = [str(write(tmp_path / f'{number}.png', 'L' if number % 2 else 'RGB')) for number in range(70)]
    sizes = [None, (9, 9)] * 35
    assert check_images(paths, sizes, jobs=2) == check_images(paths, sizes, jobs=1)


@pytest.mark.parametrize(('name', 'writer', 'level', 'kind', 'detail'), [
    ('float.tif', lambda path: Image.fromarray(np.zeros((8, 12), np.float32)).save(path), 'error',
     'cannot be read by OpenCV, as in training', '32-bit F TIFF; convert it to 8 bits'),
    ('int.tif', lambda path: Image.fromarray(np.zeros((8, 12), np.int32)).save(path), 'error',
     'cannot be read by OpenCV, as in training', '32-bit I TIFF; convert it to 8 bits'),
    ('bitmap.dib', lambda path: Image.fromarray(PIXELS).save(path), 'error',
     'cannot be read by OpenCV, as in training', '8-bit RGB DIB; save it as PNG'),
    ('deep.png', write_deep, 'warning', DEEP,
     '16 bits, values 0 to 4095 are read as 0 to 15, nearly black; scale the values to 8 bits'),
    ('gray.png', lambda path: write_deep(path, (8, 12)), 'warning', DEEP, '16 bits, values 0 to 4095'),
    ('alpha.png', lambda path: write_deep(path, (8, 12, 4)), 'warning', DEEP, 'nearly black'),
    ('deep.tif', write_deep, 'warning', DEEP, 'nearly black'),
    ('deep.ppm', write_deep, 'warning', DEEP, 'nearly black'),
    ('full.png', lambda path: write_deep(path, largest=65535), 'warning', DEEP,
     '16 bits, values 0 to 65535 are read as 0 to 255; scale the values to 8 bits'),
    ('color.tif', lambda path: cv2.imwrite(str(path), np.ones((8, 12, 3), np.float32)),
     *(('error', 'cannot be read by OpenCV, as in training') if OPENCV_5 else ('warning', DEEP)), '32 bits'),
    ('pages.tif', lambda path: write_frames(path), 'warning', 'has several frames or pages, of which the first is read',
     ''),
    ('frames.webp', lambda path: write_frames(path), 'warning',
     'has several frames or pages, of which the first is read', ''),
    ('turned.webp', write_rotated, 'warning', 'has an orientation that is not applied to this kind of file',
     'value 6, WEBP')])
def test_files_that_training_reads_in_another_way_or_not_at_all(tmp_path, capfd, name, writer, level, kind, detail):
    writer(tmp_path / name)
    (fault,) = check_image(str(tmp_path / name))
    assert (fault.level, fault.kind) == (level, kind) and detail in fault.detail
    assert capfd.readouterr() == ('', '')  # OpenCV prints warnings of its own


def write_frames(path):
    Image.fromarray(PIXELS).save(path, save_all=True, append_images=[Image.fromarray(255 - PIXELS)])


def test_other_decoders_have_other_findings(tmp_path):
    turned = str(write_rotated(tmp_path / 'a.jpg'))
    assert not [fault for fault in check_image(turned, (8, 12)) if fault.level == 'error']
    assert [fault.kind for fault in check_image(turned, (12, 8), ImageReader(color_type='unchanged'))] == [
        'has an orientation that is not applied to this kind of file']
    Image.fromarray(np.zeros((8, 12), np.float32)).save(tmp_path / 'a.tif')
    assert check_image(str(tmp_path / 'a.tif'), None, ImageReader('pillow'))[0].level == 'warning'


def test_a_folder_is_not_an_image(tmp_path):
    (tmp_path / 'x.jpg').mkdir()
    assert only_fault(tmp_path / 'x.jpg').kind == 'is a folder'
