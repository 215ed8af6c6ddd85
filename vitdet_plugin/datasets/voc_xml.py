"""Read XML files in any declared encoding, with line numbers, without entities."""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax import ContentHandler, SAXParseException

from vitdet_plugin.utils.text_files import decode_any

_DECLARATION = re.compile(r'^\s*<\?xml\b[^>]*?\?>')
_ENCODING = re.compile(rb'^\s*<\?xml\b[^>]*?\bencoding\s*=\s*["\']([A-Za-z0-9._-]+)["\']')

SIDES = ('xmin', 'ymin', 'xmax', 'ymax')


@dataclass
class Node:
    """An XML element with its line number; tags are in lower case and without the prefix of a namespace.

    The root also has the encoding as which its file was read.
    """

    tag: str
    line: int
    text: str = ''
    children: list[Node] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    encoding: str = 'UTF-8'

    def find(self, tag: str) -> Node | None:
        """Return the first child with this tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def value(self, tag: str) -> str | None:
        """Return the text of the first child with this tag."""
        child = self.find(tag)
        return None if child is None else child.text.strip()


class _TreeBuilder(ContentHandler):
    def __init__(self) -> None:
        super().__init__()
        self.root: Node | None = None
        self._open: list[Node] = []

    def startElement(self, name: str, attrs) -> None:
        node = Node(name.rpartition(':')[2].lower(), self._locator.getLineNumber(), attributes=dict(attrs))
        if self._open:
            self._open[-1].children.append(node)
        self.root = self.root or node
        self._open.append(node)

    def characters(self, content: str) -> None:
        if self._open:
            self._open[-1].text += content

    def endElement(self, name: str) -> None:
        self._open.pop()


def read_xml(path: Path, guess_encoding: bool = False) -> Node:
    """Return the root of an XML file; entities and external references are refused.

    Valid UTF-8 is read as such, whatever the file declares.

    Args:
        path: The file.
        guess_encoding: Read a file that is not in the encoding it declares as UTF-16, GBK or Latin-1.

    Raises:
        ValueError: With the arguments ``(line or None, reason)``.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.sax import parseString
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(None, 'the file is empty')
    # expat has no multi-byte encodings such as GBK: decode here and drop the declaration, but not its lines
    try:
        text, encoding = _decode(content)
    except ValueError:
        if not guess_encoding:
            raise
        try:
            text, encoding = decode_any(content)
        except UnicodeDecodeError:
            raise ValueError(None, 'not a text file') from None
    text = _DECLARATION.sub(lambda found: '\n' * found[0].count('\n'), text, count=1)
    builder = _TreeBuilder()
    try:
        parseString(text.encode('utf-8'), builder)
    except SAXParseException as error:
        raise ValueError(error.getLineNumber(), f'not valid XML: {error.getMessage()}') from None
    except DefusedXmlException as error:
        raise ValueError(None, f'refused: the XML defines or fetches entities ({type(error).__name__})') from None
    if builder.root is None:
        raise ValueError(None, 'not valid XML: no element found')
    builder.root.encoding = encoding
    return builder.root


def object_box(each: Node) -> list[float]:
    """Return the corners (x1, y1, x2, y2) of an ``object`` as written, in pixels.

    Raises:
        ValueError: With the arguments ``(line, reason)``.
    """
    name, bounds = each.value('name'), each.find('bndbox')
    if bounds is None:
        others = ', '.join(child.tag for child in each.children if child.tag in ('polygon', 'segmentation', 'rbox',
                                                                                 'robndbox', 'mask'))
        raise ValueError(each.line, f'{name}: no bndbox; a box needs four numbers' +
                         (f' (found {others})' if others else ''))
    texts = [bounds.value(side) for side in SIDES]
    try:
        box = [float(text) for text in texts]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        box = [math.nan] * 4
    if any(math.isnan(value) for value in box):
        found = ', '.join(f'{side} {text!r}' for side, text in zip(SIDES, texts))
        raise ValueError(bounds.line, f'{name}: a box needs four numbers, found {found}')
    side = next((side for side, low in (('x', 0), ('y', 1)) if math.inf > box[low] > box[low + 2]), None)
    if side is not None:
        raise ValueError(bounds.line, f'{name}: {side}min {bounds.value(side + "min")} is above {side}max '
                                      f'{bounds.value(side + "max")}; exchange them')
    return box


def stated_size(root: Node) -> tuple[float, float] | None:
    """Return the (width, height) in pixels that an ``annotation`` states, or None if it is missing or 0 x 0.

    Raises:
        ValueError: With the arguments ``(line, reason)``.
    """
    stated = root.find('size')
    if stated is None:
        return None
    texts = stated.value('width') or '0', stated.value('height') or '0'
    try:
        size = float(texts[0]), float(texts[1])
    except ValueError:
        raise ValueError(stated.line, f'size {texts[0]!r} x {texts[1]!r}: not numbers') from None
    return None if size == (0, 0) else size  # labeling tools write 0 for an unknown size


def _decode(content: bytes) -> tuple[str, str]:
    """Decode by the byte order mark, else by the declared encoding, else as UTF-8; also return the encoding."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = 'utf-16'
    elif content.startswith(b'<\0'):
        encoding = 'utf-16-le'
    elif content.startswith(b'\0<'):
        encoding = 'utf-16-be'
    elif not content.startswith(codecs.BOM_UTF8) and (declared := _ENCODING.match(content)):
        encoding = declared[1].decode('ascii')
    else:
        encoding = 'utf-8'
    # `utf-16` declared in a file of single bytes was written by a program that converted the text afterwards
    if encoding.lower().replace('-', '') in ('utf8', 'usascii') or \
            encoding.lower().startswith('utf-16') and b'\0' not in content:
        encoding = 'utf-8'
    try:
        if encoding != 'utf-8' and _is_utf8(content, encoding):
            encoding = 'utf-8'
        return content.decode('utf-8-sig' if encoding == 'utf-8' else encoding), encoding.upper()
    except LookupError:
        raise ValueError(1, f'the declared encoding {encoding!r} is unknown; save the file as UTF-8') from None
    except UnicodeDecodeError as error:
        raise ValueError(content.count(b'\n', 0, error.start) + 1,
                         f'not valid {encoding} text at byte {error.start}; declare the right encoding or save the '
                         'file as UTF-8') from None


def _is_utf8(content: bytes, declared: str) -> bool:
    """Whether text is UTF-8 in spite of the encoding that it declares.

    Characters of three bytes are hardly ever valid by chance. Those of two, such as an accented letter, can be one
    character of a declared encoding with two bytes, but hardly two of one with single bytes.

    Raises:
        LookupError: The declared encoding is unknown.
    """
    has_single_bytes = len(content.decode(declared, 'replace')) == len(content)
    try:
        text = content.decode('utf-8')
    except UnicodeDecodeError:
        return False
    return b'\0' not in content and (has_single_bytes or max(text) > '\u07ff')
