"""The words of ``--cfg-options``, without the import of mmengine that parsing their values needs."""

from collections.abc import Sequence

from vitdet_plugin.errors import UserError


def split_options(words: Sequence[str]) -> dict[str, str]:
    """Turn ``['a.b=1', 'c=[x,y]']`` into ``{'a.b': '1', 'c': '[x,y]'}``.

    Raises:
        UserError: A word has no ``=``, or brackets do not match.
    """
    options = {}
    for word in words:
        key, equals, value = word.partition('=')
        if not equals or not key:
            raise UserError(f'--cfg-options {word}: expected KEY=VALUE without spaces around "="')
        if any(value.count(opening) != value.count(closing) for opening, closing in ('[]', '()')):
            raise UserError(f'--cfg-options {word}: brackets do not match')
        options[key] = value
    return options
