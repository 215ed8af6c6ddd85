"""The text of a config is formatted once, without the time that long strings cost.

mmengine formats the whole config with yapf for the log and for every checkpoint. For nested calls with strings that do
not fit into a line, such as absolute paths, yapf searches line breaks for seconds and more. Names of files and classes
with ``{{`` are written so that they are read back.
"""

import functools
import importlib
import re

from vitdet_plugin.compat.patching import Patch

_TEXT = Patch('mmengine.config.Config', 'pretty_text', upstream='mmengine >= 0.10',
              why='yapf takes seconds for nested configs with long paths, again for every checkpoint')
_LONG = re.compile(r"""'(?:[^'\\\n]|\\.){25,}'|"(?:[^"\\\n]|\\.){25,}\"""")
_PLACEHOLDER = re.compile(r"'<(\d+)>'")
# that of mmengine
_STYLE = dict(based_on_style='pep8', blank_line_before_nested_class_or_def=True,
              split_before_expression_after_opening_paren=True)


class _MarkedProperty(property):
    """A property that takes attributes, for the mark of a patch."""


def install() -> None:
    """Replace the property that formats the text of a config."""
    _TEXT.install(_with_short_strings)


def _with_short_strings(original: property) -> property:
    def pretty_text(cfg) -> str:
        if not cfg._format_python_code:
            return original.fget(cfg)  # type: ignore[misc]
        object.__setattr__(cfg, '_format_python_code', False)
        try:
            plain = original.fget(cfg)  # type: ignore[misc]
        finally:
            object.__setattr__(cfg, '_format_python_code', True)
        try:
            return _format(plain)
        except Exception:  # mmengine reports what it cannot format
            return original.fget(cfg)  # type: ignore[misc]

    return _MarkedProperty(pretty_text, doc=original.__doc__)


def literal_braces(code: str) -> str:
    r"""Return code whose strings keep ``{{ name }}``, which mmengine replaces in a config, as ``{\x7b name }}``."""
    return code.replace('{{', r'{\x7b')


@functools.lru_cache(maxsize=8)
def _format(text: str) -> str:
    text = literal_braces(text)
    format_code = importlib.import_module('yapf.yapflib.yapf_api').FormatCode  # a dependency of mmengine
    if _PLACEHOLDER.search(text):  # a config with such strings is formatted as it is
        return format_code(text, style_config=_STYLE)[0]
    found: list[str] = []

    def shorten(match: re.Match) -> str:
        found.append(match[0])
        return f"'<{len(found) - 1}>'"

    short, _ = format_code(_LONG.sub(shorten, text), style_config=_STYLE)
    return _PLACEHOLDER.sub(lambda match: found[int(match[1])], short)
