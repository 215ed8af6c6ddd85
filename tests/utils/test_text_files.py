import pytest

from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import decode_any, read_text, starts_with_mark


@pytest.mark.parametrize(('codec', 'has_mark'), [('utf-8', False), ('utf-8-sig', True), ('utf-16', True)])
def test_encodings_and_ends_of_lines(tmp_path, codec, has_mark):
    (tmp_path / 'a.txt').write_bytes('猫\r\ndog\r'.encode(codec))
    assert read_text(tmp_path / 'a.txt') == '猫\ndog\n'
    assert starts_with_mark(tmp_path / 'a.txt') == has_mark


@pytest.mark.parametrize(('content', 'reason'), [
    (b'\xff\xd8\xff', r'not UTF-8 text \(.* at byte 0\)'), ('ab'.encode('utf-16-le'), 'a binary file'),
    (b'\x89PNG\0\0', 'a binary file')])
def test_other_files_are_named(tmp_path, content, reason):
    (tmp_path / 'a.txt').write_bytes(content)
    with pytest.raises(UserError, match=f'a.txt: {reason}; save it as UTF-8'):
        read_text(tmp_path / 'a.txt')


@pytest.mark.parametrize(('text', 'codec', 'encoding'), [
    ('cat,dog\r\n', 'utf-8', 'UTF-8'), ('猫', 'utf-8-sig', 'UTF-8'), ('猫', 'utf-16', 'UTF-16'),
    ('猫', 'utf-32', 'UTF-32'), ('cat,dog', 'utf-16-le', 'UTF-16LE'), ('cat,dog', 'utf-16-be', 'UTF-16BE'),
    ('图片,类别\n猫.jpg,狗', 'gbk', 'GBK'),
    ('pêche\ncréée,à', 'latin-1', 'Latin-1'), ('café', 'latin-1', 'Latin-1'), ('Größe €', 'cp1252', 'Latin-1'),
    ('año,niño', 'latin-1', 'Latin-1')])
def test_encoding_is_recognized(text, codec, encoding):
    assert decode_any(text.encode(codec)) == (text.replace('\r\n', '\n'), encoding)


@pytest.mark.parametrize('content', [b'\x89PNG\0\0\0\1abcdefghijklmnop', b'\xff\xfe\0'])
def test_binary_content_is_refused(content):
    with pytest.raises(UnicodeDecodeError):
        decode_any(content)
