"""Read XML files in any declared encoding, with line numbers, without entities."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax import ContentHandler, SAXParseException

_DECLARATION = re.compile(r'^\s*<\?xml\b[^>]*?\?>')
_ENCODING = re.compile(rb'^\s*<\?xml\b[^>]*?\bencoding\s*=\s*["\']([A-Za-z0-9._-]+)["\']')


@dataclass
class Node:
    """An XML element with its line number; tags are in lower case and without the prefix of a namespace."""

    tag: str
    line: int
    text: str = ''
    children: list[Node] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)

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


def read_xml(path: Path) -> Node:
    """Return the root of an XML file; entities and external references are refused.

    Raises:
        ValueError: With the arguments ``(line or None, reason)``.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.sax import parseString
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(None, 'the file is empty')
    # expat has no multi-byte encodings such as GBK: decode here and drop the declaration, but not its lines
    text = _DECLARATION.sub(lambda found: '\n' * found[0].count('\n'), _decode(content), count=1)
    builder = _TreeBuilder()
    try:
        parseString(text.encode('utf-8'), builder)
    except SAXParseException as error:
        raise ValueError(error.getLineNumber(), f'not valid XML: {error.getMessage()}') from None
    except DefusedXmlException as error:
        raise ValueError(None, f'refused: the XML defines or fetches entities ({type(error).__name__})') from None
    if builder.root is None:
        raise ValueError(None, 'not valid XML: no element found')
    return builder.root


def _decode(content: bytes) -> str:
    """Decode by the byte order mark, else by the declared encoding, else as UTF-8."""
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
    try:
        # `utf-16` declared in a file of single bytes was written by a program that converted the text afterwards
        return content.decode('utf-8-sig' if encoding.lower().replace('-', '') in ('utf8', 'usascii') or
                              encoding.lower().startswith('utf-16') and b'\0' not in content else encoding)
    except LookupError:
        raise ValueError(1, f'the declared encoding {encoding!r} is unknown; save the file as UTF-8') from None
    except UnicodeDecodeError as error:
        raise ValueError(content.count(b'\n', 0, error.start) + 1,
                         f'not valid {encoding} text at byte {error.start}; declare the right encoding or save the '
                         'file as UTF-8') from None
