"""JSON files in other encodings, or damaged: one line says what to do, wherever they are read."""

import gzip
import json
import re

import pytest
from mmdet.datasets.api_wrappers import COCO

from vitdet_plugin import register_all
from vitdet_plugin.datasets.coco import read_coco
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import describe_encoding

TEXT = json.dumps(dict(images=[dict(id=1, file_name='é.jpg', width=9, height=9)], annotations=[],
                       categories=[dict(id=1, name='ü')]), ensure_ascii=False)
UTF8 = TEXT.encode()
FILES = {
    'UTF-16 or UTF-32 text; save it as UTF-8': [TEXT.encode('utf-16'), TEXT.encode('utf-16-le'), TEXT.encode('utf-32')],
    'zero bytes from byte': [UTF8 + bytes(9), UTF8[:30] + bytes(4) + UTF8[30:], bytes(len(UTF8))],
    'two byte order marks': [b'\xef\xbb\xbf' * 2 + UTF8], 'an archive, not JSON text; unpack it': [gzip.compress(UTF8)],
    r'not UTF-8 text \(.*\); save it as UTF-8': [TEXT.encode('latin-1')]}


@pytest.mark.parametrize('reason, content', [(reason, each) for reason, files in FILES.items() for each in files])
def test_reasons(tmp_path, reason, content):
    register_all()
    path = tmp_path / 'a.json'
    path.write_bytes(content)
    for read in (read_coco, lambda path: COCO(str(path))):
        with pytest.raises(UserError, match=rf'^{re.escape(str(path))}: not valid JSON: .*{reason}'):
            read(path)


def test_valid_text_has_no_reason(tmp_path):
    assert describe_encoding(UTF8) == describe_encoding(b'') == describe_encoding(b'\xef\xbb\xbf' + UTF8) == ''
    path = tmp_path / 'a.json'
    path.write_bytes(b'\xef\xbb\xbf' + UTF8)
    assert read_coco(path)['categories'] == [dict(id=1, name='ü')]


def test_a_damaged_file_of_an_unknown_set_is_named(tmp_path):
    (tmp_path / 'a.json').write_bytes(UTF8 + bytes(9))
    tree = FileTree(tmp_path)
    file, = tree.with_suffix('.json')
    assert tree.read_json(file) is None and tree.json_errors[file].startswith('zero bytes from byte')
