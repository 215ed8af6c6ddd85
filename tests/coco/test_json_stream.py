"""Lists of JSON files read piece by piece: the values are those of the standard library."""

import json
import random

import pytest

from vitdet_plugin.coco import json_stream
from vitdet_plugin.coco.json_stream import JsonStream, UnsupportedJson, read_list

DECODERS = ['standard library', 'orjson']


@pytest.fixture(params=DECODERS)
def decoder(request, monkeypatch):
    """Each decoder, with pieces of a few bytes."""
    if request.param == 'orjson':
        pytest.importorskip('orjson', reason='orjson (extra "fast") is not installed')
    else:
        monkeypatch.setattr(json_stream, '_fastest', lambda: lambda piece: json.loads(piece.decode()))
    monkeypatch.setattr(json_stream, '_PIECE', 64)
    monkeypatch.setattr(json_stream, '_TAIL', 32)
    monkeypatch.setattr(json_stream, '_OVERLAP', 48)


def members(path, *lists):
    with JsonStream(path) as stream:
        return {key: [each for piece in value for each in piece] if key in lists else value
                for key, _, value in stream.members(lists)}


def read(path, text, *lists):
    path.write_text(text, encoding='utf-8')
    return members(path, *lists)


VALUES = [0, -0, 1, -7, 2**53 + 1, 10**15, 0.1, -0.0, 1e300, 1e-320, 5e-324, 123456.789, 12345678901234567890.5, 1E5,
          True, None, '', 'é€😀', '},{', '}]', '"annotations": [', '\\"\n\t', [], {}, [[]],
          [{'a': [{'b': 1}, {'c': '},{'}]}]]


def any_object(rng):
    return {rng.choice('abcdef') * rng.randint(1, 9): rng.choice(VALUES) for _ in range(rng.randint(0, 5))}


@pytest.mark.parametrize('style', [dict(), dict(indent=2), dict(separators=(',', ':')), dict(ensure_ascii=False)])
def test_values_are_those_of_the_standard_library(style, decoder, tmp_path):
    rng = random.Random(0)
    for number in range(40):
        content = {'info': any_object(rng), 'images': [any_object(rng) for _ in range(rng.randint(0, 30))],
                   'n': rng.choice(VALUES), 'annotations': [any_object(rng) for _ in range(rng.randint(0, 60))]}
        text = json.dumps(content, **style)
        found = read(tmp_path / f'{number}.json', text, 'images', 'annotations')
        assert repr(found) == repr(json.loads(text))  # also 1 and 1.0, 0.0 and -0.0


@pytest.mark.parametrize('text', ['[NaN, {"a": Infinity}]', r'[{"a": "\ud800"}, {"b": 1}]', '[1, [2], "x", {"a": 3}]',
                                  '[{"a": 9223372036854775807}, {"b": -9223372036854775808}]', ' [ ] ',
                                  '[{"a":1} ,\n\t{"a":2}\r]'])
def test_lists_of_other_content(text, decoder, tmp_path):
    text = f'{{"list": {text}, "b": 2}}'
    assert repr(read(tmp_path / 'a.json', text, 'list')['list']) == repr(json.loads(text)['list'])


def test_byte_order_mark_and_space_around(decoder, tmp_path):
    (tmp_path / 'a.json').write_bytes(b'\xef\xbb\xbf \n{ "list" : [ {"a": 1} ] } \n')
    assert members(tmp_path / 'a.json', 'list') == {'list': [{'a': 1}]}


@pytest.mark.parametrize('text', ['', '[]', '{"list": [{"a": 1}', '{"list": [{"a": 1}]', '{"list": [{"a": 1},]}',
                                  '{"list": [{"a": 1} {"a": 2}]}', '{"list": []} x', '{"list": [], "list": []}',
                                  '{"list": {}}', '{"list": [{"a": 01}]}', '{"list": [],}', '{"a" 1}', '{"a": 1',
                                  '{"list": [{"a": "\x01"}, {"b": 1}]}'])
def test_what_is_not_valid_is_refused(text, decoder, tmp_path):
    text = text.replace('[{', '[' + '{"filler": "' + 'x' * 50 + '"},' * 3 + '{')
    with pytest.raises(UnsupportedJson):
        read(tmp_path / 'a.json', text, 'list')


def test_bytes_that_are_not_utf8(decoder, tmp_path):
    (tmp_path / 'a.json').write_bytes(b'{"list": [{"a": "\xff"}, {"b": 1}]}')
    with pytest.raises(UnsupportedJson):
        members(tmp_path / 'a.json', 'list')


@pytest.mark.parametrize('fill', range(0, 70, 3))
def test_a_list_is_found_at_its_offset(fill, decoder, tmp_path):
    path = tmp_path / 'a.json'
    text = f'{{"é": "{"x" * fill}", "other": "\\"list\\" : 1", "list" :  [{{"a": 1}}, {{"a": 2}}], "end": [1]}}'
    path.write_text(text, encoding='utf-8')
    offset, found = read_list(path, 'list')
    assert found == [{'a': 1}, {'a': 2}]
    with JsonStream(path) as stream:
        assert offset == {key: at for key, at, _ in stream.members(['list'])}['list']
    assert read_list(path, 'absent') is None
