"""Read the lists of a large JSON object piece by piece, so that the whole object is never in memory.

Pieces are decoded by orjson where it is installed, and else by the standard library. Both give the same values: what
orjson refuses (NaN, Infinity, lone surrogates) is decoded again by the standard library. The only difference: orjson
reads integers of more than 64 bits as floats.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any

_PIECE = 2**18  # bytes decoded at once
_TAIL = 2**15  # part of a piece in which it may end
_OVERLAP = 256  # of searched pieces: longer than a key, a colon and the space around it
_SPACE = re.compile(rb'[ \t\n\r]*')
_KEY = re.compile(rb'[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')
_BETWEEN_OBJECTS = re.compile(rb'\}[ \t\n\r]*,[ \t\n\r]*(?=\{)')
_TEXT_SPACE = re.compile(r'[ \t\n\r]*')
_decoder = json.JSONDecoder()


class UnsupportedJson(Exception):
    """The text is not valid, or has a form that the reader does not handle; the standard library decides."""


def read_list(path: str | os.PathLike, key: str) -> tuple[int, list] | None:
    """Return the first list after ``"key":`` and its offset in bytes; the rest of the file is only searched.

    The same text may occur inside other values: the caller compares the offset with that of the member.

    Returns:
        Offset and elements; None if there is no such list, or it is not valid.

    Raises:
        OSError: The file cannot be read.
    """
    offset = next(_find_lists(path, key), None)
    if offset is None:
        return None
    try:
        with JsonStream(path, offset) as stream:
            return offset, [each for piece in stream.elements() for each in piece]
    except UnsupportedJson:
        return None


def _find_lists(path: str | os.PathLike, key: str) -> Iterator[int]:
    pattern = re.compile(rb'"' + re.escape(key.encode()) + rb'"[ \t\n\r]*:[ \t\n\r]*(?=\[)')
    text, start, last = b'', 0, -1
    with open(path, 'rb') as file:
        while new := file.read(_PIECE):
            text += new
            for match in pattern.finditer(text):
                if start + match.end() > last:
                    last = start + match.end()
                    yield last
            start += max(0, len(text) - _OVERLAP)
            text = text[-_OVERLAP:]


def _fastest() -> Callable[[bytes], list]:
    try:
        import orjson
    except ImportError:
        return lambda piece: json.loads(piece.decode())
    return orjson.loads


class JsonStream:
    """The members of a JSON object in a file, in order.

    Args:
        path: UTF-8 file, with or without byte order mark.
        offset: Position in bytes to begin at.

    Raises:
        OSError: The file cannot be read.
    """

    def __init__(self, path: str | os.PathLike, offset: int = 0) -> None:
        self._file = open(path, 'rb')
        self._file.seek(offset)
        self._size = os.fstat(self._file.fileno()).st_size
        self._buffer, self._at, self._start = b'', 0, offset  # bytes, next one, offset of the buffer in the file

    def __enter__(self) -> JsonStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def members(self, lists: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """Yield (key, offset of the value in bytes, value) of every member.

        Args:
            lists: Keys of lists whose value is an iterator of lists of elements, to be consumed before the next member.

        Raises:
            UnsupportedJson: See the class.
        """
        self._fill(_PIECE)
        if self._buffer.startswith(codecs.BOM_UTF8):
            self._at = len(codecs.BOM_UTF8)
        self._expect(b'{')
        seen: set[str] = set()
        while True:
            key = self._key()
            if key in seen:
                raise UnsupportedJson(f'{key!r} occurs twice')
            seen.add(key)
            offset = self._start + self._at
            if key in lists:
                if self._next() != b'[':
                    raise UnsupportedJson(f'{key!r} is not a list')
                pieces = self.elements()
                yield key, offset, pieces
                for _ in pieces:  # what the caller has left
                    pass
            else:
                yield key, offset, self._value()
            if self._expect(b',', b'}') == b'}':
                break
        self._skip_space()
        if self._next():
            raise UnsupportedJson('text after the object')

    def elements(self) -> Iterator[list]:
        """Yield the elements of the list that begins here, several at a time, and go on after its end."""
        self._fill(_PIECE)
        self._expect(b'[')
        self._skip_space()
        if self._next() == b']':
            self._at += 1
            return
        needed, decode = _PIECE, _fastest()
        while True:
            self._fill(needed)
            found = self._whole_piece(decode)
            if found is not None:
                yield found
                continue
            found, is_end = self._single_elements()
            if found:
                yield found
                needed = _PIECE
            if is_end:
                return
            if not found:
                if self._start + len(self._buffer) >= self._size:
                    raise UnsupportedJson('the list does not end')
                needed *= 4

    def _whole_piece(self, decode: Callable[[bytes], list]) -> list | None:
        """Decode up to a position between two objects; None if it lies inside an element or after the list.

        A piece that begins with an element, and is a valid list between brackets, ends with an element: otherwise a
        bracket or a quotation mark would be open.
        """
        match = _BETWEEN_OBJECTS.search(self._buffer, max(self._at, len(self._buffer) - _TAIL))
        if match is None:
            return None
        try:
            found = decode(b'[' + self._buffer[self._at:match.start() + 1] + b']')
        except ValueError:
            return None
        self._at = match.end()
        return found

    def _single_elements(self) -> tuple[list, bool]:
        """Decode the elements in the buffer one by one; return them and whether the list ends after them."""
        text = self._text()
        found: list = []
        position = used = 0
        is_end = False
        while not is_end:
            try:
                value, position = _decoder.raw_decode(text, _skip(text, position))
            except json.JSONDecodeError:  # cut by the end of the buffer, or not valid, which the next call finds
                break
            position = _skip(text, position)
            if position >= len(text):
                break
            if text[position] not in ',]':
                raise UnsupportedJson('a list needs "," or "]" after an element')
            is_end = text[position] == ']'
            position += 1
            used = position
            found.append(value)
        self._at += len(text[:used].encode())
        return found, is_end

    def _value(self) -> Any:
        needed = _PIECE
        while True:
            self._fill(needed)
            text = self._text()
            try:
                value, end = _decoder.raw_decode(text)
            except json.JSONDecodeError:
                end = len(text)
            if end < len(text):  # a number could go on after the end of the buffer
                self._at += len(text[:end].encode())
                return value
            if self._start + len(self._buffer) >= self._size:
                raise UnsupportedJson('a value does not end')
            needed *= 4

    def _text(self) -> str:
        try:
            return codecs.getincrementaldecoder('utf-8')().decode(self._buffer[self._at:])
        except UnicodeDecodeError as error:
            raise UnsupportedJson('not UTF-8') from error

    def _key(self) -> str:
        self._fill(_TAIL)
        match = _KEY.match(self._buffer, self._at)
        if match is None:
            raise UnsupportedJson('expected a key')
        self._at = match.end()
        return match[1].decode('utf-8', 'replace')

    def _expect(self, *characters: bytes) -> bytes:
        self._skip_space()
        found = self._next()
        if found not in characters:
            raise UnsupportedJson(f'expected {characters}, found {found!r}')
        self._at += 1
        return found

    def _next(self) -> bytes:
        self._fill(1)
        return self._buffer[self._at:self._at + 1]

    def _skip_space(self) -> None:
        while True:
            self._fill(_TAIL)
            self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer) or self._start + len(self._buffer) >= self._size:
                return

    def _fill(self, count: int) -> None:
        """Read on until ``count`` bytes lie ahead, or the file ends."""
        missing = count - (len(self._buffer) - self._at)
        if missing > 0 and (new := self._file.read(missing)):
            self._start += self._at
            self._buffer, self._at = self._buffer[self._at:] + new, 0


def _skip(text: str, position: int) -> int:
    return _TEXT_SPACE.match(text, position).end()  # type: ignore[union-attr]
