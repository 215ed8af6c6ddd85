import pytest

from vitdet_plugin.utils.distinct_names import distinct_names


@pytest.mark.parametrize(('paths', 'names'), [
    (['d/001.jpg', 'd/002.jpg'], ['001', '002']),
    (['d/a.jpg', 'd/a.png', 'd/b.png'], ['a.jpg', 'a.png', 'b']),
    (['d/x/im.png', 'd/y/im.png', 'd/x/im2.png'], ['x_im', 'y_im', 'im2']),
    (['d/x/im.png', 'd/x_im.png', 'd/im.png'], ['x_im.png', 'x_im.png_2', 'im']),
    (['d/A.jpg', 'd/a.jpg'], ['A.jpg', 'a.jpg_2']),
    ([], [])])
def test_names_are_short_and_distinct(paths, names):
    found = distinct_names(paths)
    assert len({name.casefold() for name in found}) == len(paths)
    assert found == names


def test_folders_below_a_root_are_kept():
    paths = ['d/cat/1.png', 'd/cat/1.jpg', 'd/cat/2.png']
    assert distinct_names(paths, 'd') == ['cat/1.png', 'cat/1.jpg', 'cat/2']
