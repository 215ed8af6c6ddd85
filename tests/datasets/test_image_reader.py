"""Sizes and orientations equal to those of mmcv's loader, for every decoder and location of the orientation."""

import json

import cv2
import mmcv
import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from PIL import Image

from tests.datasets.image_writer import PIXELS, write_kinds, write_rotated
from vitdet_plugin.datasets.image_probe import decoder_limits, probe_image
from vitdet_plugin.datasets.image_reader import ImageReader, decode, reader_of_pipeline, size_fault
from vitdet_plugin.errors import UserError


@pytest.fixture(scope='module')
def kinds(tmp_path_factory):
    return write_kinds(tmp_path_factory.mktemp('kinds'))


@pytest.mark.parametrize('color_type', ['color', 'grayscale', 'unchanged', 'color_ignore_orientation'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
def test_the_size_is_that_of_mmcv(kinds, backend, color_type):
    sizes = {}
    for name, path in kinds.items():
        read = mmcv.imread(str(path), flag=color_type, backend=backend).shape[1::-1]
        with decoder_limits():
            probes = [probe_image(path, decode=each, reader=ImageReader(backend, color_type)) for each in (True, False)]
        assert [probe.size_as_read for probe in probes] == [read, read], name
        sizes[name] = read
    if color_type == 'color':
        assert sizes['exif.jpg'] == sizes['exif.png'] == sizes['exif.tif'] == sizes['late.png'] == (8, 12)
        assert sizes['xmp.jpg'] == ((12, 8) if backend == 'cv2' else (8, 12))
        finds_exif = backend != 'cv2' or cv2.__version__ >= '5'  # after XMP
        assert sizes['xmp first.jpg'] == ((8, 12) if finds_exif else (12, 8))


def test_a_camera_file_is_a_jpeg_without_further_frames(kinds):
    probe = probe_image(kinds['camera.jpg'])
    assert (probe.format, probe.other_format, probe.has_frames) == ('MPO', '', False)


def test_all_orientations_are_decoded_as_by_mmcv(kinds, tmp_path):
    for name, path in kinds.items():
        assert np.array_equal(decode(path), mmcv.imread(str(path))), name
    assert decode(tmp_path / 'none.jpg') is None


def test_the_reader_of_a_pipeline():
    load = dict(type='mmdet.LoadImageFromFile', imdecode_backend='pillow', color_type='unchanged')
    assert reader_of_pipeline([dict(type='LoadAnnotations'), load]) == ImageReader('pillow', 'unchanged')
    assert reader_of_pipeline([dict(type='LoadImageFromFile')]) == reader_of_pipeline(None) == ImageReader()


def test_limits():
    """203 and 90 megapixels are read; more than OpenCV's limit, and files too small for their size, are not."""
    assert size_fault(14500, 14000, 9 * 10**5) == size_fault(10000, 9000, 14 * 10**5) == ''
    assert 'OpenCV reads up to 1073741824 pixels' in size_fault(2**15 + 1, 2**15)
    assert size_fault(2**20 + 1, 1) and not size_fault(2**20, 1)
    assert size_fault(30000, 30000, 10**4) == '30000 x 30000 in a file of 10000 bytes'


def test_sizes_of_large_images_come_from_the_header(tmp_path):
    Image.new('1', (14500, 14000)).save(tmp_path / 'a.png')
    with decoder_limits():
        assert probe_image(tmp_path / 'a.png', decode=False).size_as_read == (14500, 14000)


def test_a_header_that_claims_a_huge_image_is_refused_without_decoding(tmp_path):
    content = bytearray(b''.join([b'P6 30000 30000 255\n', bytes(300)]))
    (tmp_path / 'bomb.ppm').write_bytes(content)
    with decoder_limits():
        assert str(probe_image(tmp_path / 'bomb.ppm')).startswith('is implausibly large (30000 x 30000 in a file of')


@pytest.mark.parametrize(('size', 'is_right'), [((8, 12), True), ((12, 8), False), ((9, 12), False)])
def test_loading_compares_the_size_with_the_annotated_one(tmp_path, size, is_right):
    write_rotated(tmp_path / 'a.jpg')
    content = dict(images=[dict(id=1, file_name='a.jpg', width=size[0], height=size[1])],
                   categories=[dict(id=1, name='x')],
                   annotations=[dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 4, 4], area=16, iscrowd=0)])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    dataset = CocoDataset(ann_file=str(tmp_path / 'a.json'), data_prefix=dict(img=str(tmp_path)),
                          metainfo=dict(classes=('x',)), pipeline=[dict(type='LoadImageFromFile')])
    if is_right:
        assert dataset[0]['img'].shape == (12, 8, 3) == PIXELS.shape[1::-1] + (3,)
        return
    text = rf'a.jpg: the image is read as 8 x 12, annotated {size[0]} x {size[1]}'
    with pytest.raises(UserError, match=text) as error:
        dataset[0]
    assert ('EXIF orientation' in str(error.value)) == (size == (12, 8))
