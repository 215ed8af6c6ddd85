"""Every form of an image becomes the same array, or one line."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from vitdet_plugin.engine.image_arrays import array_of_pil, bgr_array, decode_image, is_cut_jpeg
from vitdet_plugin.engine.image_sources import find_images, out_paths
from vitdet_plugin.errors import UserError

BGR = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
RGB = np.ascontiguousarray(BGR[..., ::-1])


def png(array=BGR, suffix='.png'):
    return cv2.imencode(suffix, array)[1].tobytes()


@pytest.mark.parametrize('image', [
    BGR, np.dstack([BGR, BGR[..., :1]]), Image.fromarray(RGB), Image.fromarray(RGB).convert('RGBA'),
    torch.from_numpy(RGB.copy()).permute(2, 0, 1), torch.from_numpy(RGB.copy()).permute(2, 0, 1) / 255,
    torch.from_numpy(RGB.copy()).permute(2, 0, 1).double().div(255).requires_grad_(), png(), bytearray(png()),
    io.BytesIO(png())], ids=lambda image: type(image).__name__)
def test_one_image_in_any_form(image):
    found, = find_images(image)
    np.testing.assert_array_equal(found.content(), BGR)
    assert (found.path, found.name, str(found.output)) == (None, 'image 0', 'image_0')


@pytest.mark.parametrize('image', [
    BGR[..., 0], BGR[..., :1], Image.fromarray(BGR[..., 0]), Image.fromarray(BGR[..., 0]).convert('LA'),
    torch.from_numpy(BGR[None, ..., 0].copy()), png(BGR[..., 0]),
    Image.fromarray(BGR[..., 0].astype(np.uint16) * 256 + 77)], ids=lambda image: type(image).__name__)
def test_gray_images(image):
    found, = find_images(image)
    np.testing.assert_array_equal(found.content(), np.repeat(BGR[..., :1], 3, 2))


def test_palettes_and_orientations_of_pil():
    few = Image.fromarray(RGB // 128 * 128)
    palette, = find_images(few.convert('P', palette=Image.Palette.ADAPTIVE))
    np.testing.assert_array_equal(palette.content(), BGR // 128 * 128)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB).save(buffer, 'png', exif=exif)
    turned, = find_images(Image.open(io.BytesIO(buffer.getvalue())))
    assert turned.content().shape == (9, 6, 3)


def test_batches_lists_generators_and_files(tmp_path):
    (tmp_path / 'in' / 'sub').mkdir(parents=True)
    for name in ('b.png', 'sub/a.png', '.hidden.png'):
        (tmp_path / 'in' / name).write_bytes(png())
    (tmp_path / 'in' / 'notes.txt').write_text('')
    (tmp_path / 'in' / 'gone.jpg').symlink_to('nowhere')
    uri = (tmp_path / 'in' / 'b.png').as_uri()
    forms = [np.stack([BGR, BGR]), [torch.zeros(2, 3, 4, 4)], (each for each in [str(tmp_path / 'in')]),
             tmp_path / 'in' / 'b.png', uri, str(tmp_path / 'in' / '*.png'), []]
    found = find_images(forms)
    assert [str(each.output) for each in found] == [
        'image_0', 'image_1', 'image_2', 'image_3', '.hidden', 'b', 'gone', 'sub/a', 'b', 'b', 'b']
    assert [each.is_found for each in found] == [False] * 4 + [True] * 4 + [False] * 3
    names = [path.name for path in out_paths(found, tmp_path)]
    assert names[5:] == ['b.jpg', 'gone.jpg', 'a.jpg', 'b_2.jpg', 'b_3.jpg', 'b_4.jpg']
    assert find_images([]) == []


@pytest.mark.parametrize('form, says', [
    (None, 'None is not an image; give a file'), ([BGR, None], 'None is not an image'), (3, 'int is not an image'),
    (dict(image=BGR), 'dict is not an image'), ('', 'is empty'), ('nothing.png', 'nothing.png does not exist'),
    ('no/*.png', 'no/*.png matches no file'), ('ftp://x.org/a.jpg', 'is a URL; download'),
    (np.zeros((0, 4, 3), np.uint8), 'expected (H, W, 3) uint8 in BGR order, got (0, 4, 3)'),
    (np.zeros((4, 4, 3)), 'multiply values in [0, 1] by 255'), (np.zeros((4, 4, 2), np.uint8), 'got (4, 4, 2)'),
    (np.zeros((4, 4, 3), np.uint16), 'uint16'), (np.zeros(4, np.uint8), 'got (4,)'),
    (torch.zeros(4, 4, 3), 'expected (3, H, W) in RGB order, got (4, 4, 3)'), (torch.zeros(3, 0, 4), 'got (3, 0, 4)'),
    (torch.full((3, 4, 4), 200.), 'must be in [0, 1]'), (torch.full((3, 4, 4), torch.nan), 'must be in [0, 1]'),
    (torch.zeros(3, 4, 4, dtype=torch.int64), 'torch.int64'), (b'', '0 bytes cannot be read'), (b'text', '4 bytes'),
    (io.StringIO('text'), 'is open as text; open it with mode "rb"'), (Image.new('F', (4, 4)), 'of unknown range')],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__)
def test_anything_else_is_one_line(form, says):
    with pytest.raises(UserError) as caught:
        find_images(form)
    assert says in str(caught.value) and '\n' not in str(caught.value)


def test_a_jpeg_that_ends_early_is_recognized(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    content = png(image, '.jpg')
    for name, data, is_cut in [('whole', content, False), ('cut', content[:-400], True),
                               ('padded', content + b'\0' * 9, False), ('more', content + b'x' * 5000, False)]:
        (tmp_path / name).write_bytes(data)
        assert is_cut_jpeg(tmp_path / name) == is_cut
    with pytest.raises(UserError, match='bytes cannot be read'):
        find_images(content[:-400])
    with pytest.raises(UserError, match='PIL image: cannot be read .*truncated'):
        array_of_pil(Image.open(io.BytesIO(content[:-400])))


def test_data_after_a_large_jpeg(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)  # Pillow refuses images of more than twice as many
    content = png(np.zeros((64, 64, 3), np.uint8), '.jpg') + b'x' * 5000
    assert decode_image(content).shape == (64, 64, 3)


@pytest.mark.parametrize('suffix, codec', [('.avi', 'MJPG'), ('.mp4', 'mp4v')])
def test_the_frames_of_a_video(tmp_path, suffix, codec):
    path = tmp_path / f'clip{suffix}'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 5, (64, 48))
    if not writer.isOpened():
        pytest.skip(f'OpenCV cannot write {suffix}')
    for level in (40, 120, 200):
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    found = find_images(path)
    assert [each.frame for each in found] == [0, 1, 2] and str(found[2].output) == 'clip_000002'
    for frame in (0, 2, 1):  # going back is possible
        assert found[frame].content().mean() == pytest.approx((40, 120, 200)[frame], abs=8)
    (tmp_path / 'no.mp4').write_bytes(b'no video' * 9)
    source, = find_images(os.fspath(tmp_path / 'no.mp4'))
    with pytest.raises(UserError, match='no.mp4 cannot be read as a video'):
        source.content()


def test_arrays_are_contiguous_and_copied_without_alpha():
    assert bgr_array(np.dstack([BGR, BGR[..., :1]])).flags.c_contiguous


def test_an_image_beyond_the_limit_of_opencv():
    content = bytearray(png())
    content[16:24] = struct.pack('>II', 60_000, 60_000)  # width and height in the header, then its checksum
    content[29:33] = struct.pack('>I', zlib.crc32(bytes(content[12:29])))
    with pytest.raises(UserError, match='more pixels than OpenCV decodes'):
        decode_image(bytes(content))


def test_videos_in_a_folder_are_named(tmp_path, capsys):
    (tmp_path / 'clip.mp4').write_bytes(b'x')
    with pytest.raises(UserError, match='holds no images .*it holds 1 video: name them, such as .*clip.mp4'):
        find_images(tmp_path)
    (tmp_path / 'a.png').write_bytes(png())
    assert len(find_images(tmp_path)) == 1
    assert '1 video left out' in capsys.readouterr().err
