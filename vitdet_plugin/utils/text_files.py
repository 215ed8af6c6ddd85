"""Text files of users: UTF-8 with or without a byte order mark, or UTF-16 with one, as Windows programs write them."""

from __future__ import annotations

import codecs
from pathlib import Path

from vitdet_plugin.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_ARCHIVES = (b'\x1f\x8b', b'PK\x03\x04', b'BZh', b'\xfd7zXZ')
_HEAD = 64  # bytes


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


def decode_any(content: bytes) -> tuple[str, str]:
    """Decode text of an unknown encoding: UTF-8, UTF-16 and UTF-32 where valid, otherwise GBK or Latin-1.

    GBK and Latin-1 are distinguished by frequency: most double bytes of Chinese text are among the
    3755 common characters, those of accented letters are not.

    Returns:
        The text without byte order mark, every end of line a line feed; and the name of the encoding.

    Raises:
        UnicodeDecodeError: The content is binary.
    """
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the former begins as UTF-16 does
        text, encoding = content.decode('utf-32'), 'UTF-32'
    elif content.startswith(_UTF16):
        text, encoding = content.decode('utf-16'), 'UTF-16'
    elif b'\0' in content[:4096]:
        encoding = 'UTF-16LE' if content[1:2] == b'\0' else 'UTF-16BE'
        text = content.decode(encoding)
        if '\0' in text or content.count(b'\0') < len(content) // 4:
            raise UnicodeDecodeError('utf-8', content, content.index(b'\0'), content.index(b'\0') + 1, 'zero byte')
    else:
        try:
            text, encoding = content.decode('utf-8-sig'), 'UTF-8'
        except UnicodeDecodeError:
            encoding = 'GBK' if _is_chinese(content) else 'Latin-1'
            # Windows-1252 adds printable characters to Latin-1 and leaves a few bytes undefined
            text = content.decode('gb18030' if encoding == 'GBK' else 'cp1252', 'strict' if encoding == 'GBK' else
                                  'replace')
    return text.replace('\r\n', '\n').replace('\r', '\n'), encoding


def _is_chinese(content: bytes) -> bool:
    """Whether the content is valid GBK, and most of its double bytes are common characters or punctuation."""
    try:
        text = content.decode('gb18030')
    except UnicodeDecodeError:
        return False
    wide = [each.encode('gb18030') for each in text if each > '\x7f']
    common = sum(len(each) == 2 and (0xb0 <= each[0] <= 0xd7 or 0xa1 <= each[0] <= 0xa3) and each[1] >= 0xa1
                 for each in wide)
    return 2 * common > len(wide)


def describe_encoding(content: bytes) -> str:
    """Return what is wrong with the encoding of a JSON file that cannot be parsed, and what to do; empty if nothing."""
    if content.startswith(_ARCHIVES):
        return 'an archive, not JSON text; unpack it'
    first = content.find(b'\0')
    if content.startswith(_UTF16) or 0 <= first < 4 and content[:_HEAD].count(b'\0') < len(content[:_HEAD]):
        return 'UTF-16 or UTF-32 text; save it as UTF-8'
    if first >= 0:
        return f'zero bytes from byte {first} on, so the file is damaged; copy, download or write it again'
    if content.startswith(codecs.BOM_UTF8 * 2):
        return 'two byte order marks at its begin; save it as UTF-8'
    try:
        content.decode('utf-8')
    except UnicodeDecodeError as error:
        return f'not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8'
    return ''


def starts_with_mark(path: str | Path) -> bool:
    """Whether a file begins with a byte order mark, which the readers of the OpenMMLab packages take for content."""
    with open(path, 'rb') as file:
        return file.read(3).startswith((codecs.BOM_UTF8, *_UTF16))
