import pytest

from vitdet_plugin.config.option_words import parse_value, split_options
from vitdet_plugin.config.options import parse_options
from vitdet_plugin.errors import UserError


@pytest.mark.parametrize('text, value', [
    ('1', 1), ('-3', -3), ('1e-4', 1e-4), ('-2.5', -2.5), ('True', True), ('false', False), ('None', None), ('', ''),
    ('[x,y]', ['x', 'y']), ('(1,2)', (1, 2)), ('a,b', ['a', 'b']), ('[(1, 2), [a, None]]', [(1, 2), ['a', None]]),
    ('"[1,2]"', [1, 2]), ("'a, b'", 'a, b'), ('"1"', '1'), ("['a b','c,d']", ['a b', 'c,d']), ('[]', []), ('()', ()),
    ('/my data (1)/x', '/my data (1)/x'), ('a=b=c', 'a=b=c'), ("it's", "it's"), ('2024_01', '2024_01'),
    ("{'a': [1]}", dict(a=[1])), ('{a: [x, 1]}', dict(a=['x', 1])), ('dict()', {}),
    ("dict(a=('x y','z,w'), b=dict(c=1e-4,d={e: f}))", dict(a=('x y', 'z,w'), b=dict(c=1e-4, d=dict(e='f')))),
    ('[a,b],[c]', [['a', 'b'], ['c']]), ('http://host/x?a=1', 'http://host/x?a=1')])
def test_values(text, value):
    assert parse_value(split_options([f'key={text}'])['key']) == value
    assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize('word, says', [('a', 'KEY=VALUE'), ('=1', 'KEY=VALUE'), ('a = 1', 'KEY=VALUE'),
                                        ('a=[x', 'brackets'), ('a=(]', 'brackets')])
def test_words_that_are_not_options(word, says):
    with pytest.raises(UserError, match=says):
        split_options([word])


@pytest.mark.parametrize('text', ['dict(a)', '{a', '{1, 2}', 'dict(1=2)', 'dict(a=1)x'])
def test_text_that_begins_as_a_dictionary_is_refused(text):
    with pytest.raises(UserError, match='--cfg-options k=.*: (not a dictionary; write|brackets do not match)'):
        parse_options([f'k={text}'])


def test_brackets_in_quotes_are_text():
    assert parse_value(split_options(['a="x)"'])['a']) == 'x)'
