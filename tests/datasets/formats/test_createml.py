"""Create ML files written by hand."""

import pytest

from tests.datasets.formats.reading import CAT, DOG, assert_objects, read, splits, write, write_image
from vitdet_plugin.datasets.formats.tree import FileTree


def annotation(name, box, scale=(1, 1), **more):
    x1, y1, x2, y2 = box
    return dict(label=name, coordinates=dict(x=(x1 + x2) / 2 * scale[0], y=(y1 + y2) / 2 * scale[1],
                                             width=(x2 - x1) * scale[0], height=(y2 - y1) * scale[1]), **more)


def test_an_export_of_roboflow_with_splits(tmp_path):
    for split in ('train', 'valid', 'test'):
        write_image(tmp_path / split / f'{split}.jpg')
        write(tmp_path / split / '_annotations.createml.json',
              [dict(image=f'{split}.jpg', annotations=[annotation(*CAT), annotation(*DOG)] * (split != 'test'))])
    found = read(tmp_path, 'createml')
    expected = {f'{split}/{split}.jpg': [CAT, DOG] for split in ('train', 'valid')}
    found.images = [image for image in found.images if image.objects]
    assert_objects(found, tmp_path, expected)
    assert found.classes == ['cat', 'dog'] and not found.problems
    assert splits(found, tmp_path) == {'train/train.jpg': 'train', 'valid/valid.jpg': 'val'}


def test_names_of_keys_of_apple_and_relative_coordinates(tmp_path):
    write_image(tmp_path / 'images/a.jpg')
    relative = annotation(*CAT, scale=(1 / 100, 1 / 80))
    write(tmp_path / 'boxes.json', [dict(imagefilename='a.jpg', annotation=[relative])])
    found = read(tmp_path, 'createml')
    assert_objects(found, tmp_path, {'images/a.jpg': [CAT]})
    assert any('relative' in note for note in found.notes)


def test_what_cannot_be_converted_is_a_problem(tmp_path):
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'a.json', [
        dict(image='a.jpg', verified=True, annotations=[
            annotation(*CAT), dict(label='cat'), dict(label='cat', coordinates=dict(x=1, y=1, width=2)),
            annotation('cat', (10, 10, 10, 20)), annotation('', CAT[1]), annotation('cat', (300, 10, 320, 20)), None]),
        dict(image='gone.jpg', annotations=[annotation(*CAT)]), dict(annotations=[])])
    found = read(tmp_path, 'createml')
    assert_objects(found, tmp_path, {'a.jpg': [CAT]})
    assert len(found.problems) == 6 + 2 and 'its 1 objects are not converted' in str(found.problems[6])


@pytest.mark.parametrize('content', [
    [dict(image='a.jpg', annotations=[])], [dict(image='a.jpg', label='cat')], dict(image='a.jpg'), [], ['a.jpg'],
    [dict(image='a.jpg', annotations=[dict(label='cat')])]])
def test_other_lists_are_not_recognized(tmp_path, content):
    from vitdet_plugin.datasets.formats.createml import FORMAT
    write_image(tmp_path / 'a.jpg')
    write(tmp_path / 'x.json', content)
    assert FORMAT.recognize(FileTree(tmp_path)) is None
