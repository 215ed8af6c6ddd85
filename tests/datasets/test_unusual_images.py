"""Files that are not read, and files with more than 8 bits per channel."""

import cv2
import numpy as np
import pytest
from PIL import Image

from vitdet_plugin.datasets.unusual_images import describe_depth, describe_unreadable, stored_bits

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)


def save(path, kind):
    if isinstance(kind, str):
        Image.fromarray(PIXELS).convert(kind).save(path)
    else:
        cv2.imwrite(str(path), kind)
    return path


@pytest.mark.parametrize('name, kind', [('a.png', '1'), ('a.png', 'L'), ('a.png', 'LA'), ('a.png', 'RGBA'),
                                        ('a.png', 'P'), ('a.jpg', 'CMYK'), ('a.tif', '1'), ('a.tif', 'CMYK'),
                                        ('a.webp', 'RGB'), ('a.bmp', 'RGB'), ('a.gif', 'P')])
def test_images_of_eight_bits_are_read(tmp_path, name, kind):
    path = save(tmp_path / name, kind)
    assert describe_unreadable(path) == '' and stored_bits(path) <= 8


@pytest.mark.parametrize('name, values, bits', [
    ('a.png', PIXELS.astype(np.uint16) * 16, 16), ('gray.png', PIXELS[..., 0].astype(np.uint16) * 16, 16),
    ('a.tif', PIXELS.astype(np.uint16) * 16, 16), ('gray.pgm', PIXELS[..., 0].astype(np.uint16) * 16, 16),
    ('a.tif', PIXELS.astype(np.float32), 32)])
def test_range_of_deep_images(tmp_path, name, values, bits):
    path = save(tmp_path / name, values)
    assert stored_bits(path) == bits
    text = describe_depth(path, bits)
    if cv2.imread(str(path)) is None:  # floating-point color in OpenCV 5
        assert bits == 32 and text.startswith('32 bits, which OpenCV ') and describe_unreadable(path).startswith(
            'the file cannot be read by OpenCV, as in training (32 bits; convert it to 8 bits')
        return
    assert f'{bits} bits, values ' in text and text.endswith('; scale the values to 8 bits')
    assert (bits == 16) == (f' to {values.max():g} are read as 0 to 1' in text) == (', nearly black' in text)


@pytest.mark.parametrize('content, reason', [(b'', 'the file is empty'), (b'\xff\xd8', 'no known image format'),
                                             (b'\0' * 99, 'no known image format'), (None, 'the file is missing')])
def test_reason_of_files_that_are_not_images(tmp_path, content, reason):
    path = tmp_path / 'a.jpg'
    if content is not None:
        path.write_bytes(content)
    assert reason in describe_unreadable(path) and stored_bits(path) == 8


def test_reason_of_images_that_opencv_does_not_read(tmp_path):
    path = tmp_path / 'a.tif'
    Image.fromarray(PIXELS[..., 0].astype(np.float32)).save(path)
    assert describe_unreadable(path) == 'OpenCV does not read 32-bit F TIFF; convert it to 8 bits'
