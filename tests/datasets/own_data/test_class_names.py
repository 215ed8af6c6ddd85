"""``vitdet init --classes``: names for numbered classes."""

from pathlib import Path

import pytest

from vitdet_plugin.datasets.formats.base import SourceImage, SourceObject, SourceSet
from vitdet_plugin.datasets.own_data.class_names import name_classes
from vitdet_plugin.errors import UserError


def numbered(*classes):
    objects = [SourceObject(name, (0, 0, 1, 1)) for name in classes]
    return SourceSet('yolo', list(classes), [SourceImage(Path('a.jpg'), 9, 9, objects=objects),
                                             SourceImage(Path('b.jpg'), 9, 9, label=classes[-1])])


@pytest.mark.parametrize('as_file', [False, True])
def test_names_in_the_order_of_the_numbers(tmp_path, as_file):
    text = 'cat, dog,cow'
    if as_file:
        (tmp_path / 'names.txt').write_bytes('cat\r\ndog\r\n\r\ncow\r\n'.encode('utf-8-sig'))
        text = str(tmp_path / 'names.txt')
    source = numbered('class 0', 'class 2')
    name_classes(source, text)
    assert source.classes == ['cat', 'dog', 'cow'] and source.images[1].label == 'cow'
    assert [each.name for each in source.images[0].objects] == ['cat', 'cow']


@pytest.mark.parametrize(('classes', 'text', 'says'), [
    (['cat', 'dog'], 'a,b', 'the data set states the names of its classes (cat, dog)'),
    (['class 0', 'class 3'], 'a,b', '2 names, but the data set has class 3, counted from 0'),
    (['class 0'], 'a,b,a', 'a name occurs twice')])
def test_names_that_do_not_fit(classes, text, says):
    with pytest.raises(UserError) as caught:
        name_classes(numbered(*classes), text)
    assert says in str(caught.value)
