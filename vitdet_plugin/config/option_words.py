"""The words of ``--cfg-options`` and their values, without the slow import of mmengine."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vitdet_plugin.errors import UserError

_WORDS = {'true': True, 'false': False}
_CALL = re.compile(r'dict\s*\(')
_BRACKETS = {'[': ']', '(': ')', '{': '}'}


def split_options(words: Sequence[str]) -> dict[str, str]:
    """Turn ``['a.b=1', 'c=[x,y]']`` into ``{'a.b': '1', 'c': '[x,y]'}``.

    Raises:
        UserError: A word has no ``=``, or brackets do not match.
    """
    options = {}
    for word in words:
        key, equals, value = word.partition('=')
        if not equals or not key or key != key.strip():
            raise UserError(f'--cfg-options {word}: expected KEY=VALUE without spaces around "="')
        depth = dict.fromkeys('[]()', 0)
        for _, char in _outside_quotes(_unquoted(value) if _is_quoted_list(value) else value):
            if char in depth:
                depth[char] += 1
        if depth['['] != depth[']'] or depth['('] != depth[')']:
            raise UserError(f'--cfg-options {word}: brackets do not match')
        options[key] = value
    return options


def parse_value(text: str) -> Any:
    """Return the value that a text stands for.

    ``[…]`` is a list, ``(…)`` a tuple, ``a,b`` a list, ``{…}`` and ``dict(…)`` a dictionary; numbers, ``True``,
    ``False`` and ``None`` are recognized.
    Other text and text in quotes is a string. Quotes around a list in brackets are ignored, because some shells keep
    them.
    """
    text = text.strip()
    if _is_quoted_list(text):
        return parse_value(_unquoted(text))
    if _is_quoted(text):
        return _unquoted(text)
    if text[:1] == '{' or _CALL.match(text):
        found = _parse_dict(text)
        return text if found is None else found
    if text[:1] in ('[', '(') and _closes_at_end(text):
        items = [parse_value(item) for item in _split_at_commas(text[1:-1])]
        return tuple(items) if text[0] == '(' else items
    items = _split_at_commas(text)
    return [parse_value(item) for item in items] if len(items) > 1 or text.endswith(',') else _parse_scalar(text)


def _parse_dict(text: str) -> dict | None:
    """Return the dictionary of ``{'a': 1}``, ``{a: 1}`` or ``dict(a=1)``; None if it is not valid."""
    opening = text.index('{' if text[0] == '{' else '(')
    if not _closes_at_end(text[opening:]):
        return None
    if text[0] == '{':
        try:
            value = ast.literal_eval(text)
            return value if isinstance(value, dict) else None
        except (ValueError, SyntaxError):
            pass
    found = {}
    for item in _split_at_commas(text[opening + 1:-1]):
        name, sign, value = item.partition(':' if text[0] == '{' else '=')
        name = name.strip()
        name = _unquoted(name) if text[0] == '{' and _is_quoted(name) else name
        if not sign or not name.isidentifier():
            return None
        found[name] = parse_value(value)
    return found


def _parse_scalar(text: str) -> Any:
    if '_' not in text:  # Python accepts 2024_01 as a number
        for number in (int, float):
            try:
                return number(text)
            except ValueError:
                pass
    return None if text == 'None' else _WORDS.get(text.lower(), text)


def _is_quoted(text: str) -> bool:
    return len(text) > 1 and text[0] in '\'"' and text[-1] == text[0] and text[0] not in text[1:-1]


def _is_quoted_list(text: str) -> bool:
    inner = text[1:-1].strip()
    return len(text) > 1 and text[0] in '\'"' and text[-1] == text[0] and inner[:1] in ('[', '(') and \
        _closes_at_end(inner)


def _unquoted(text: str) -> str:
    return text[1:-1]


def _closes_at_end(text: str) -> bool:
    """Whether the bracket that opens the text is closed by its last character."""
    depth = 0
    for index, char in _outside_quotes(text):
        depth += (char in _BRACKETS) - (char in _BRACKETS.values())
        if depth == 0:
            return index == len(text) - 1 and char == _BRACKETS[text[0]]
    return False


def _split_at_commas(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotes; a comma at the end adds nothing."""
    parts, start, depth = [], 0, 0
    for index, char in _outside_quotes(text):
        depth += (char in _BRACKETS) - (char in _BRACKETS.values())
        if char == ',' and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return parts + [text[start:]] if text[start:].strip() else parts


def _outside_quotes(text: str) -> Iterator[tuple[int, str]]:
    """Yield (index, character) outside of quoted parts; a quote counts only where an item begins, as in ``'a,b'``."""
    end = -1
    for index, char in enumerate(text):
        if index <= end:
            continue
        if char in '\'"' and re.search(r'(?:^|[\[({,:=])\s*$', text[:index]):
            closing = text.find(char, index + 1)
            if closing >= 0:
                end = closing
                continue
        yield index, char
