"""Models in files: batches, sizes, earlier formats, masks, faults."""

import os
import shutil

import cv2
import numpy as np
import pytest

from tests.runtime.small_files import CLASSES, noise, write_classifier, write_detector
from vitdet_plugin.runtime import ModelError, load

pytest.importorskip('onnxruntime', reason='the extra "onnx" is not installed')
pytest.importorskip('onnx', reason='the extra "onnx" is not installed')


def check(result, image, size):
    """The box is a quarter of the model's input, of which the image fills all."""
    height, width = image.shape[:2]
    np.testing.assert_allclose(result.boxes, [[width / 4, height / 4, width / 2, height / 2]], rtol=1e-6)
    assert result.scores[0] == pytest.approx(cv2.resize(image, size).mean() / 255, abs=1e-5)
    assert result.names == ['b'] and result.labels.tolist() == [1] and result.shape == (height, width)


@pytest.mark.parametrize('dynamic', [(), ('batch',), ('size',), ('batch', 'size')])
def test_batches_in_the_order_of_the_images(tmp_path, dynamic):
    """Images of two shapes, with and without a dynamic batch dimension."""
    write_detector(tmp_path / 'd.onnx', dynamic)
    images = [noise(*shape, seed) for seed, shape in enumerate([(48, 64), (96, 128), (48, 64), (24, 32), (30, 40)])]
    model = load(tmp_path / 'd.onnx')
    batches = []
    run = model.session.run
    model.session.run = lambda batch: batches.append(len(batch)) or run(batch)
    for image, result in zip(images, model.stream(images, batch_size=3, score_thr=0.0), strict=True):
        check(result, image, (32, 24))
    assert batches == ([3, 2] if 'batch' in dynamic else [1] * 5)


def test_any_size(tmp_path):
    write_detector(tmp_path / 'd.onnx')
    model = load(tmp_path / 'd.onnx')
    image = noise(64, 48)
    result, = model(image, score_thr=0)
    check(result, image, (24, 32))  # fits into 32 x 24 in either direction
    assert 'any x 3 x any size' in repr(model)


def test_a_fixed_size_pads_smaller_images_and_shrinks_larger_ones(tmp_path):
    write_detector(tmp_path / 'd.onnx', ('batch',), shape=(24, 40))
    model = load(tmp_path / 'd.onnx')
    result, = model(noise(48, 64), score_thr=0)  # 24 x 32 of 24 x 40
    np.testing.assert_allclose(result.boxes, [[40 / 4 * 2, 24 / 4 * 2, 40 / 2 * 2, 24 / 2 * 2]])
    result, = model(noise(64, 48), score_thr=0)  # 32 x 24 does not fit: 24 x 18
    np.testing.assert_allclose(result.boxes, [[10 * 48 / 18, 6 * 64 / 24, 48, 12 * 64 / 24]], rtol=1e-6)


def test_objects_in_the_padding_are_left_out(tmp_path):
    write_detector(tmp_path / 'd.onnx', ('batch',), 'boxes', [dict(load='color')], (24, 160))
    model = load(tmp_path / 'd.onnx')
    for width, count in ((40, 0), (41, 1)):  # the object has x from 40 to 80
        result, = model(noise(24, width), score_thr=0)
        assert len(result.boxes) == len(result.masks) == len(result.names) == count


@pytest.mark.parametrize('pipeline', [[dict(type='LoadImageFromFile'), dict(
    type='mmdet.Resize', scale=[32, 24], keep_ratio=True), dict(type='PackDetInputs')], None])
def test_files_of_format_1(tmp_path, pipeline):
    """No batch dimension and no steps: those of the test pipeline, or the image fits into the input."""
    write_detector(tmp_path / 'd.onnx', (), 'boxes', file_format=1, **(dict(pipeline=pipeline) if pipeline else {}))
    image = noise(48, 64)
    result, = load(tmp_path / 'd.onnx')(image, score_thr=0, batch_size=4)
    check(result, image, (32, 24))
    assert result.masks.shape == (1, 48, 64) and not result.masks[:, :, 24:].any()


def test_a_pipeline_of_an_earlier_file_that_cannot_be_applied_is_a_warning(tmp_path):
    write_detector(tmp_path / 'd.onnx', (), file_format=1, pipeline=[dict(type='LoadImageFromFile'), dict(type='Albu')])
    with pytest.warns(UserWarning, match='Albu of the test pipeline cannot be applied: images are resized to 24 x 32'):
        load(tmp_path / 'd.onnx')


def test_masks_over_boxes_and_of_the_image(tmp_path):
    write_detector(tmp_path / 'd.onnx', masks='boxes', mask_threshold=0.5)
    image = noise(48, 64)
    image[..., 2] = 0
    image[10:20, 30:50, 2] = 200
    result, = load(tmp_path / 'd.onnx')(image, score_thr=0)
    mask = result.masks[0]
    assert mask[13:23, 17:23].all() and 88 <= mask.sum() <= 96  # the left half of the box (16, 12, 32, 24)
    write_detector(tmp_path / 'i.onnx', masks='image')
    mask = load(tmp_path / 'i.onnx')(image, score_thr=0)[0].masks[0]
    assert mask.shape == (48, 64) and abs(mask.sum() - 200) < 70 and mask[12:18, 32:48].all()


def test_a_classifier(tmp_path):
    write_classifier(tmp_path / 'c.onnx')
    image = np.full((20, 30, 3), (30, 60, 10), np.uint8)  # blue, green, red
    cv2.imwrite(str(tmp_path / 'a.png'), image)
    for source in (image, str(tmp_path / 'a.png'), tmp_path / 'a.png', (tmp_path / 'a.png').read_bytes()):
        result, = load(tmp_path / 'c.onnx')(source)
        assert result.top(2) == [('b', pytest.approx(0.6)), ('c', pytest.approx(0.3))]
    assert [name for name, _ in load(tmp_path / 'c.onnx', threads=1)(image)[0].top()] == ['b', 'c', 'a']


def test_gray_and_transparent_arrays_and_pil_images(tmp_path):
    write_classifier(tmp_path / 'c.onnx')
    model, gray = load(tmp_path / 'c.onnx'), np.full((20, 30), 50, np.uint8)
    alpha = np.full((20, 30, 4), (30, 60, 10, 0), np.uint8)
    from PIL import Image
    pil = Image.fromarray(np.full((20, 30, 3), (10, 60, 30), np.uint8))
    first, second, third, fourth = model([gray, gray[..., None], alpha, pil])
    np.testing.assert_allclose([first.scores, second.scores], 1 / 3, rtol=1e-5)
    np.testing.assert_allclose([third.scores, fourth.scores], [[.6, .3, .1]] * 2, rtol=1e-5)


def test_broken_files_are_named(tmp_path):
    write_detector(tmp_path / 'd.onnx')
    model, folder = load(tmp_path / 'd.onnx'), tmp_path / 'images'
    folder.mkdir()
    for name in 'abc':
        cv2.imwrite(str(folder / f'{name}.jpg'), noise(48, 64))
    (folder / 'b.jpg').write_bytes((folder / 'b.jpg').read_bytes()[:-200])
    faults = []
    results = list(model.stream(folder, 2, on_fault=faults.append))
    assert [result.path[-5:] for result in results] == ['a.jpg', 'c.jpg'] and 'b.jpg' in faults[0] and len(faults) == 1
    with pytest.warns(UserWarning, match='left out: .*b.jpg cannot be read as an image .the file ends early'):
        assert len(model(folder)) == 2
    with pytest.raises(ModelError, match='b.jpg'):
        model(folder / 'b.jpg')
    misnamed = os.fsdecode(b'\xe4.jpg')
    shutil.copy(folder / 'a.jpg', folder / misnamed)
    with pytest.raises(ModelError, match='has a name that is not UTF-8'):
        model(folder / misnamed)
    for wrong, says in ((tmp_path / 'none', 'does not exist'), (None, 'None is not an image'), ([], None),
                        (np.zeros((4, 4, 3)), 'uint8'), (tmp_path / '*.gif', 'matches no file')):
        if says is None:
            assert model(wrong) == []
            continue
        with pytest.raises(ModelError, match=says):
            model(wrong)


@pytest.mark.parametrize('content, says', [
    (b'', 'it is empty'), (b'hello\n', 'it is a text file'), (b'version https://git-lfs.github.com/spec/v1', 'Git LFS'),
    (b'<!DOCTYPE html><html>', 'it is a web page'), (b'\x08\x09\x12\x00\xff\xfe', 'the file is damaged')])
def test_damaged_files(tmp_path, content, says):
    (tmp_path / 'a.onnx').write_bytes(content)
    with pytest.raises(ModelError, match=f'a.onnx cannot be loaded.*{says}') as error:
        load(tmp_path / 'a.onnx')
    assert 'ONNXRuntimeError' not in str(error.value) and '\n' not in str(error.value)


def test_files_that_are_not_models(tmp_path):
    with pytest.raises(ModelError, match='none.onnx does not exist. Write it with "vitdet export"'):
        load(tmp_path / 'none.onnx')
    (tmp_path / 'a.onnx').write_bytes(b'no model')
    with pytest.raises(ModelError, match='a.onnx cannot be loaded'):
        load(tmp_path / 'a.onnx')
    with pytest.raises(ModelError, match='give a file of "vitdet export" .*onnx or .xml'):
        load(tmp_path / 'a.pt')
    write_detector(tmp_path / 'd.onnx')
    for options, says in ((dict(threads=0), 'threads=0'), (dict(providers=['X']), 'provider X is not available'),
                          (dict(half=True), 'own precision')):
        with pytest.raises(ModelError, match=says):
            load(tmp_path / 'd.onnx', **options)
    with pytest.raises(ModelError, match='batch_size=0'):
        load(tmp_path / 'd.onnx')(noise(8, 8), batch_size=0)


def test_class_names_that_are_missing(tmp_path):
    write_detector(tmp_path / 'd.onnx')
    model = load(tmp_path / 'd.onnx')
    assert model.classes == CLASSES
    model.classes = ['a']
    assert model(noise(24, 32), score_thr=0)[0].names == ['class 1']
