"""The steps give the arrays that the pipelines of mmdet and mmpretrain give, to the bit with OpenCV."""

import cv2
import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image

from tests.runtime.small_files import noise
from vitdet_plugin import register_all
from vitdet_plugin.export.metadata import preprocess_steps
from vitdet_plugin.runtime import images, resize
from vitdet_plugin.runtime.images import read_image
from vitdet_plugin.runtime.pipeline import UnknownStep, translate
from vitdet_plugin.runtime.preprocess import prepare

LOAD, PACK = dict(type='LoadImageFromFile'), dict(type='PackDetInputs', meta_keys=('scale_factor', 'ori_shape'))
DETECTION = [
    [dict(type='Resize', scale=(61, 40), keep_ratio=True)],
    [dict(type='Resize', scale=(40, 61), keep_ratio=True, backend='pillow')],
    [dict(type='Resize', scale=(50, 30), interpolation='bicubic'), dict(type='Pad', size_divisor=32)],
    [dict(type='Resize', scale_factor=1.4, interpolation='area')],
    [dict(type='mmdet.FixScaleResize', scale=(61, 40), keep_ratio=True, interpolation='nearest')],
    [dict(type='FixShapeResize', width=48, height=40, keep_ratio=True, pad_val=7)],
    [dict(type='ResizeShortestEdge', scale=40, max_size=50)],
    [dict(type='Resize', scale=(30, 30), keep_ratio=True), dict(type='Pad', size=(32, 48), pad_val=dict(img=114))],
    [dict(type='Pad', pad_to_square=True, padding_mode='reflect'), dict(type='RandomFlip', prob=0.)],
    [dict(type='LetterBox', img_size=64)], [dict(type='LetterBox', img_size=64, upscale=True, fill=0)]]
CLASSES = [
    [dict(type='ResizeEdge', scale=40, edge='short', backend='pillow', interpolation='bicubic'),
     dict(type='CenterCrop', crop_size=33)],
    [dict(type='ResizeEdge', scale=40, edge='long'), dict(type='CenterCrop', crop_size=(50, 30), auto_pad=True)],
    [dict(type='Resize', scale=32, interpolation='lanczos')],
    [dict(type='EfficientNetCenterCrop', crop_size=30, interpolation='bilinear')]]
SHAPES = [(50, 90), (90, 51), (30, 30)]


def by_mm(pipeline, path, scope):
    register_all()
    init_default_scope(scope)
    packed = Compose([dict(LOAD), *pipeline, PACK if scope == 'mmdet' else dict(type='PackInputs')])(
        dict(img_path=str(path), img_id=0))
    return packed['inputs'].numpy().transpose(1, 2, 0), packed['data_samples']


@pytest.mark.parametrize(('scope', 'pipeline'), [*(('mmdet', each) for each in DETECTION),
                                                 *(('mmpretrain', each) for each in CLASSES)])
@pytest.mark.parametrize('shape', SHAPES)
def test_arrays_are_those_of_the_pipeline(tmp_path, scope, pipeline, shape):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), noise(*shape))
    expected, sample = by_mm(pipeline, path, scope)
    steps = translate([LOAD, *pipeline, PACK])
    found = prepare(read_image(path), steps, None, True)
    np.testing.assert_array_equal(found.image, expected)
    if scope == 'mmdet' and 'scale_factor' in sample:
        assert found.scale == pytest.approx(sample.scale_factor) and found.original == sample.ori_shape


@pytest.mark.parametrize('color', ['color', 'grayscale', 'unchanged', 'color_ignore_orientation'])
@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('name', ['turned.jpg', 'alpha.png', 'deep.png', 'gray.png', 'la.png', 'palette.png',
                                  'turned.webp'])
def test_files_are_read_as_mmcv_reads_them(tmp_path, name, color, backend, monkeypatch):
    path, image = tmp_path / name, Image.fromarray(noise(24, 40))
    exif = image.getexif()
    exif[0x0112] = 6
    if name == 'deep.png':
        cv2.imwrite(str(path), noise(24, 40)[..., 0].astype(np.uint16) * 256 + 99)
        if backend == 'pillow':
            pytest.skip('mmcv clips values of 16 bits with Pillow')
    else:
        mode = dict(alpha='RGBA', gray='L', la='LA', palette='P').get(path.stem, 'RGB')
        image = image.convert('L').convert(mode) if mode == 'LA' else image.convert(mode)
        if mode in ('RGBA', 'LA'):
            image.putalpha(Image.fromarray(noise(24, 40)[..., 0]))
        image.save(path, **(dict(exif=exif, quality=95) if name.startswith('turned') else {}))
    register_all()
    from mmcv.transforms import LoadImageFromFile
    expected = LoadImageFromFile(color_type=color, imdecode_backend=backend)(dict(img_path=str(path)))['img']
    np.testing.assert_array_equal(read_image(path, color, backend), expected)
    if backend == 'pillow' or (name, color) in (('palette.png', 'unchanged'), ('la.png', 'unchanged')):
        return
    monkeypatch.setattr(images, 'opencv', lambda: None)  # Pillow alone gives the same up to rounding
    alone = read_image(path, color, backend)
    assert alone.shape == expected.shape and alone.dtype == expected.dtype
    difference = np.abs(alone.astype(int) - expected.astype(int))
    assert difference.max() <= (3 if path.suffix in ('.jpg', '.webp') else 1)


@pytest.mark.parametrize('size', [(31, 20), (64, 40), (9, 50), (32, 18)])
@pytest.mark.parametrize(('backend', 'interpolation'), [
    (backend, each) for backend, names in resize.INTERPOLATIONS.items() for each in names])
def test_numpy_computes_what_the_library_computes(backend, interpolation, size):
    image = noise(36, 64)
    expected = resize.resize(image, size, interpolation, backend).astype(int)
    found = resize.resample(image, size, interpolation, backend).astype(int)
    assert found.shape == expected.shape and np.abs(found - expected).max() <= (2 if interpolation == 'lanczos' else 1)
    assert np.abs(found - expected).mean() < 0.3


def test_other_backends_where_a_library_is_missing(monkeypatch):
    image = noise(36, 64)
    for missing, backend in (('opencv', 'cv2'), ('pillow', 'pillow')):
        expected = resize.resize(image, (31, 20), 'bilinear', backend).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(resize, missing, lambda: None)
            assert np.abs(resize.resize(image, (31, 20), 'bilinear', backend) - expected).max() <= 1


@pytest.mark.parametrize(('pipeline', 'names'), [
    ([LOAD, dict(type='Albu', transforms=[])], 'Albu'), ([dict(type='Resize', scale=8)], 'LoadImageFromFile'),
    ([LOAD, dict(type='RandomFlip', prob=0.5)], 'RandomFlip'), ([LOAD, dict(type='Resize', scale=8, new=1)], 'new=1'),
    ([dict(LOAD, imdecode_backend='tifffile')], 'tifffile'), ([], 'LoadImageFromFile'),
    ([LOAD, dict(type='Resize', scale=8, interpolation='area', backend='pillow')], 'area'),
    ([LOAD, dict(type='torchvision/Resize', size=8)], 'torchvision/Resize')])
def test_a_pipeline_that_cannot_be_expressed(pipeline, names, capsys):
    with pytest.raises(UnknownStep, match=names):
        translate(pipeline)
    for is_classifier in (True, False):
        steps = preprocess_steps(pipeline, (24, 32), is_classifier)
        assert prepare(noise(20, 20), steps, (24, 32) if not is_classifier else None, True).canvas == (24, 32)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith('warning: the exported file cannot describe') for line in lines)
    assert 'resized with the aspect ratio kept to 24 x 32' in lines[1]


def test_a_letterbox_for_a_smaller_fixed_size():
    image = noise(60, 90)
    found = prepare(image, [dict(load='color'), dict(letterbox=64, upscale=True, fill=9)], (32, 32), True)
    assert found.image.shape == (32, 32, 3) and (found.image[:5] == 9).all() and found.offset == (0, 5)
    assert found.content == (21, 32)
