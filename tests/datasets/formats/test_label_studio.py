"""Exports of Label Studio written by hand."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.datasets.formats.known_pixels import (
    DONUT,
    near,
    objects_of,
    pixels_of,
    read,
    texts,
    write_image,
    write_json,
    write_turned,
)


def write_bits(values, literal=False):
    """Encode a mask for the brush: RGBA values in runs of at most 2048, or all values as they are."""
    bits = f'{len(values):032b}' + f'{8 - 1:05b}' + ''.join(f'{size - 1:04b}' for size in (3, 6, 8, 11))
    at = 0
    while at < len(values):
        end = at + 1
        while end < len(values) and end - at < 2048 and (literal or values[end] == values[at]):
            end += 1
        length = end - at
        index, size = next((i, size) for i, size in enumerate((3, 6, 8, 11)) if length <= 2 ** size)
        bits += f'{int(not literal)}{index:02b}{length - 1:0{size}b}'
        bits += ''.join(f'{value:08b}' for value in (values[at:end] if literal else values[at:at + 1]))
        at = end
    bits += '0' * (-len(bits) % 8)
    return [int(bits[i:i + 8], 2) for i in range(0, len(bits), 8)]


def brush(mask, **more):
    return write_bits(np.repeat(mask[..., None] * 255, 4, axis=2).ravel().tolist(), **more)


def result(kind, value, labels=('cat',), size=(200, 160), **more):
    labeled = {kind: list(labels)} if kind.endswith('labels') else {}
    return dict(original_width=size[0], original_height=size[1], image_rotation=0, value=value | labeled, id='x',
                from_name='label', to_name='image', type=kind, origin='manual') | more


def rect(x=5, y=10, width=50, height=25, rotation=0, **more):
    return result('rectanglelabels', dict(x=x, y=y, width=width, height=height, rotation=rotation), **more)


def annotation(*results, canceled=False):
    numbered = [each if each['id'] != 'x' else each | dict(id=f'r{i}') for i, each in enumerate(results)]
    return dict(id=1, result=numbered, was_cancelled=canceled, ground_truth=False)  # language: ok


def task(*annotations, image='/data/upload/1/0a1b2c3d-a.jpg', **more):
    return dict(id=1, data=dict(image=image), annotations=list(annotations), predictions=[], **more)


def export(folder, *tasks):
    write_image(folder / 'a.jpg')
    write_json(folder / 'project-1.json', list(tasks))
    return folder


def test_shapes_in_percent(tmp_path):
    ellipse = result('ellipselabels', dict(x=50, y=50, radiusX=20, radiusY=12.5, rotation=90))
    polygon = result('polygonlabels', dict(points=[[10, 20], [60, 25], [30, 80]], closed=True), labels=['dog'])
    found = read(export(tmp_path, task(annotation(rect(), rect(50, 50, 20, 10, 90), polygon, ellipse))), 'label-studio')
    box, turned, polygon, ellipse = objects_of(found)
    assert not found.problems and found.classes == ['cat', 'dog']
    assert near(box.box, (10, 16, 110, 56), 1e-6) and box.mask is None
    assert near(turned.box, (84, 80, 100, 120), 1e-6)  # about the upper left corner
    assert near(polygon.mask[0], (20, 32, 120, 40, 60, 128), 1e-6)
    assert near(ellipse.box, (80, 40, 120, 120), 0.1)


@pytest.mark.parametrize('literal', [False, True])
def test_brush(tmp_path, literal):
    mask = dict(format='rle', rle=brush(DONUT.astype(int), literal=literal))
    ring, = objects_of(read(export(tmp_path, task(annotation(result('brushlabels', mask)))), 'label-studio'))
    assert (pixels_of(ring.mask) == DONUT).all()


def test_json_min(tmp_path):
    write_image(tmp_path / 'a.jpg')
    size = dict(original_width=200, original_height=160)
    write_json(tmp_path / 'min.json', [dict(
        image='/data/upload/1/0a1b2c3d-a.jpg', id=1, annotator=1, annotation_id=2, lead_time=3.5,
        label=[dict(x=5, y=10, width=50, height=25, rotation=0, rectanglelabels=['cat']) | size,
               dict(points=[[10, 20], [60, 25], [30, 80]], polygonlabels=['dog']) | size],
        tag=[dict(format='rle', rle=brush(DONUT.astype(int)), brushlabels=['ring']) | size])])
    cat, dog, ring = objects_of(read(tmp_path, 'label-studio'))
    assert near(cat.box, (10, 16, 110, 56), 1e-6) and dog.mask and (pixels_of(ring.mask) == DONUT).all()


@pytest.mark.parametrize(('name', 'file'), [
    ('/data/local-files/?d=set%2Fpart%20one/a.jpg', 'part one/a.jpg'), ('/data/upload/7/0a1b2c3d-a.jpg', 'a.jpg'),
    ('/data/upload/7/0a1b2c3d-a.jpg', '0a1b2c3d-a.jpg'), ('s3://bucket/folder/a.jpg', 'x/a.jpg'),
    ('https://host/files/a.jpg?X-Amz-Date=1', 'a.jpg'), ('gs://bucket/folder/a%20b.jpg', 'folder/a b.jpg'),
    ('C:\\data\\a.jpg', 'images/a.jpg'), ('a', 'images/a.jpg')])
def test_names_of_images(tmp_path, name, file):
    write_image(tmp_path / file)
    write_json(tmp_path / 'x.json', [task(annotation(rect()), image=name)])
    found = read(tmp_path, 'label-studio')
    assert len(objects_of(found, file.rpartition('/')[2])) == 1


def test_canceled_and_several_annotations(tmp_path):
    for name in 'bcd':
        write_image(tmp_path / f'{name}.jpg')
    found = read(export(tmp_path, task(annotation(rect(), canceled=True), annotation(rect(labels=['dog'])),
                                       annotation(rect(), rect())),
                        task(image='b.jpg'), task(annotation(rect(), canceled=True), image='c.jpg'),
                        task(annotation(), image='d.jpg')), 'label-studio')
    assert [(image.path.name, [each.name for each in image.objects]) for image in found.images] == [
        ('a.jpg', ['dog']), ('d.jpg', [])]
    notes = ' '.join(found.notes)
    assert '2 canceled annotations' in notes and '1 tasks have several' in notes and '2 tasks without' in notes


def test_a_region_and_its_labels_as_two_results(tmp_path):
    value = dict(x=5, y=10, width=50, height=25, rotation=0)
    parts = [result('rectangle', value, id='q'), result('labels', value, id='q'),
             result('choices', value | dict(choices=['dark']), id='q'),
             dict(type='relation', from_id='q', to_id='q', id='z')]
    found = read(export(tmp_path, task(annotation(*parts))), 'label-studio')
    assert [each.name for each in objects_of(found)] == ['cat'] and not found.problems
    swapped = [parts[1], parts[0], rect(id='q'), rect(id='q')]  # an id that occurs again is another region
    assert len(objects_of(read(export(tmp_path, task(annotation(*swapped))), 'label-studio'))) == 3
    found = read(export(tmp_path, task(annotation(*parts))), 'label-studio')
    assert any('1 relation' in note for note in found.notes) and any('choices' in note for note in found.notes)


def test_problems(tmp_path):
    wrong = dict(format='rle', rle=brush(np.ones((4, 4), int)))
    found = read(export(tmp_path, task(annotation(
        result('keypointlabels', dict(x=1, y=2, width=1)), result('brushlabels', wrong),
        result('brushlabels', dict(format='rle', rle=brush(DONUT.astype(int))[:40])), rect(labels=[]),
        rect(labels=['cat', 'dog']), result('polygonlabels', dict(points=[[1, 2], [3, 4]])), rect(image_rotation=90),
        result('rectanglelabels', dict(x=1, y=2, width=None, height=3)), rect())),
        task(annotation(rect()), image='missing.jpg')), 'label-studio')
    assert len(objects_of(found)) == 1
    for text, words in zip(texts(found), (
            'keypointlabels is not converted', '64 values in place of 128000', 'ends too early', 'without a class',
            '2 labels', '2 points', 'rotated in Label Studio', 'not a number of pixels', 'missing.jpg'), strict=True):
        assert text.startswith(f'project-1.json:{2 if "missing" in words else 1}: ') and words in text


def test_sizes(tmp_path):
    write_turned(tmp_path / 'b.jpg')
    write_image(tmp_path / 'c.jpg')
    large = dict(format='rle', rle=brush(DONUT[::2, ::2].astype(int)))
    found = read(export(tmp_path, task(annotation(rect(size=(160, 200))), image='b.jpg'),
                        task(annotation(rect(size=(100, 80)), result('brushlabels', large, size=(100, 80)))),
                        task(annotation(rect(size=(300, 80))), image='c.jpg')), 'label-studio')
    box, ring = objects_of(found)
    assert near(box.box, (10, 16, 110, 56), 1e-6) and (pixels_of(ring.mask) == DONUT).all()
    assert ['EXIF' in text for text in texts(found)] == [True, False] and len(found.images) == 1


def test_choices_are_classes_of_images_without_regions(tmp_path):
    write_image(tmp_path / 'b.jpg')
    write_image(tmp_path / 'c.jpg')
    choices = [result('choices', dict(choices=names)) for names in (['cat'], ['dog'], ['cat', 'dog'])]
    found = read(export(tmp_path, *(task(annotation(each), image=f'{name}.jpg')
                                    for name, each in zip('abc', choices))), 'label-studio')
    assert [image.label for image in found.images] == ['cat', 'dog'] and found.classes == ['cat', 'dog']
    assert '2 choices (cat, dog)' in texts(found)[0]


def bitmask(pixels, mode='RGBA', head='data:image/png;base64,'):
    shown = np.zeros((*pixels.shape, 4), np.uint8)
    shown[pixels] = (200, 30, 30, 255)
    if mode == 'black':
        shown[..., 3], shown[pixels] = 255, 255
    file = io.BytesIO()
    Image.fromarray(shown).save(file, 'PNG')
    return dict(imageDataURL=head + base64.b64encode(file.getvalue()).decode())


@pytest.mark.parametrize('mode', ['transparent', 'black'])
def test_bitmask(tmp_path, mode):
    ring, = objects_of(read(export(tmp_path, task(annotation(result('bitmasklabels', bitmask(DONUT, mode))))),
                            'label-studio'))
    assert (pixels_of(ring.mask) == DONUT).all()


@pytest.mark.parametrize(('value', 'reason'), [
    (bitmask(DONUT[:-1]), 'a bitmask of 200 x 159 pixels in an image of 200 x 160'),
    (bitmask(DONUT, head='http://x,'), 'does not contain an image'),
    (dict(imageDataURL='data:image/png;base64,AAAA'), 'cannot be read')])
def test_faults_of_bitmasks(tmp_path, value, reason):
    found = read(export(tmp_path, task(annotation(result('bitmasklabels', value)))), 'label-studio')
    assert not objects_of(found) and len(texts(found)) == 1 and reason in texts(found)[0]
