"""Text files of users: UTF-8 with or without a byte order mark, or UTF-16 with one, as Windows programs write them."""

import codecs
from pathlib import Path

from vitdet_plugin.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: str | Path) -> str:
    """Return the text of a file without its byte order mark; every end of line is a line feed.

    Raises:
        UserError: The file is neither UTF-8 nor UTF-16 with a byte order mark, with the position of the first wrong
            byte.
        OSError: The file cannot be opened.
    """
    content = Path(path).read_bytes()
    try:
        text = decode_text(content)
    except UnicodeDecodeError as error:
        kind = 'a binary file' if b'\0' in content[:4096] else f'not UTF-8 text ({error.reason} at byte {error.start})'
        raise UserError(f'{path}: {kind}; save it as UTF-8') from None
    return text.replace('\r\n', '\n').replace('\r', '\n')


def decode_text(content: bytes) -> str:
    """Decode UTF-8 or UTF-16 by the byte order mark.

    Raises:
        UnicodeDecodeError: The content is not valid, or it contains zero bytes without a byte order mark of UTF-16.
    """
    if content.startswith(_UTF16):
        return content.decode('utf-16')
    text = content.decode('utf-8-sig')
    if '\0' in text:
        raise UnicodeDecodeError('utf-8', content, content.index(b'\0'), content.index(b'\0') + 1, 'zero byte')
    return text


def starts_with_mark(path: str | Path) -> bool:
    """Whether a file begins with a byte order mark, which the readers of the OpenMMLab packages take for content."""
    with open(path, 'rb') as file:
        return file.read(3).startswith((codecs.BOM_UTF8, *_UTF16))
