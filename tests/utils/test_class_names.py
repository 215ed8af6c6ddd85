import pytest

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import class_names


@pytest.mark.parametrize('content', [b'a\nb c\n', b'a\nb c', b'\xef\xbb\xbfa\r\nb c\r\n\r\n', b'  a \n\n\tb c\n \n'])
def test_a_file_of_names(tmp_path, content):
    (tmp_path / 'classes.txt').write_bytes(content)
    assert class_names(str(tmp_path / 'classes.txt')) == ['a', 'b c']


@pytest.mark.parametrize('content, message', [(b'\n \n', 'no class names'), (b'\xff\xfea', 'not UTF-8')])
def test_a_file_without_names(tmp_path, content, message):
    (tmp_path / 'classes.txt').write_bytes(content)
    with pytest.raises(UserError, match=message):
        class_names(str(tmp_path / 'classes.txt'))


def test_lists_numbers_and_other_values():
    assert class_names((0, 1, 'b')) == ['0', '1', 'b'] and class_names(['a']) == ['a']
    assert class_names('a text') is None and class_names(None) is None
