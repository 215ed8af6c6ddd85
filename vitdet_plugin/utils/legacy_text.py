"""Text in the encodings of older programs: GBK and Latin-1, which no byte order mark and no declaration states."""

from __future__ import annotations

import re

from vitdet_plugin.utils.text_files import decode_text


def decode_any_text(content: bytes) -> str:
    """Decode UTF-8 or UTF-16, with or without a byte order mark, GBK, or Windows-1252 (Latin-1).

    GBK writes a Chinese character as two bytes that are usually both above 127, so its text has runs of an even number
    of such bytes; in Western text they are mostly single.

    Raises:
        ValueError: The content is binary.
    """
    try:
        return decode_text(content)
    except UnicodeDecodeError:
        pass
    if b'\0' in content:
        even, odd = content[0::2].count(0), content[1::2].count(0)
        if len(content) % 2 == 0 and max(even, odd) > len(content) / 8 and min(even, odd) < max(even, odd) / 8:
            return content.decode('utf-16-be' if even > odd else 'utf-16-le', 'replace')
        raise ValueError('a binary file')
    runs = re.findall(rb'[\x80-\xff]+', content)
    if 2 * sum(len(run) % 2 == 0 for run in runs) >= len(runs):
        try:
            return content.decode('gbk')
        except UnicodeDecodeError:
            pass
    try:
        return content.decode('cp1252')
    except UnicodeDecodeError:
        return content.decode('latin-1')
