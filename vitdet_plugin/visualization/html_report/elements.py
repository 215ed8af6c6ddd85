"""Elements of an HTML page: text is always escaped, as the page is built as a tree and not as text."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import cv2
import numpy as np

Content = str | Element | None | Iterable['Content']
_JPEG_QUALITY = 80


def tag(name: str, *content: Content, **attributes: Any) -> Element:
    """Create an element.

    Args:
        name: Its tag.
        content: Texts, elements, and sequences of these; None is skipped.
        attributes: Attributes; ``class_`` is class, other underscores become hyphens. None is skipped.
    """
    names = {key: key.rstrip('_').replace('_', '-') for key in attributes}
    element = Element(name, {names[key]: str(value) for key, value in attributes.items() if value is not None})
    _append(element, content)
    return element


def _append(element: Element, content: Content) -> None:
    if isinstance(content, Element):
        element.append(content)
    elif isinstance(content, str):
        if len(element):
            element[-1].tail = (element[-1].tail or '') + content
        else:
            element.text = (element.text or '') + content
    elif content is not None:
        for each in content:
            _append(element, each)


def to_html(element: Element) -> str:
    """Return the text of an element; characters that UTF-8 cannot encode are replaced."""
    text = tostring(element, encoding='unicode', method='html')
    return text.encode('utf-8', 'replace').decode('utf-8')


def number(value: float | None, digits: int = 3) -> str:
    """Format a value, with an en dash where it is undefined."""
    return '–' if value is None or not np.isfinite(value) else f'{value:.{digits}f}'


def table(columns: Sequence[str], rows: Iterable[Sequence[Content]], is_sortable: bool = True,
          bars: Sequence[int] = (), texts: Sequence[int] = ()) -> Element:
    """Create a table that scrolls within the page if it is too wide.

    Args:
        columns: Headings. The first column is aligned to the left, the others to the right.
        rows: Cells of each row.
        is_sortable: Whether a click on a heading sorts the rows.
        bars: Columns whose values, from 0 to 1, are also drawn as bars.
        texts: Columns with sentences, which may have several lines.
    """
    head = tag('tr', [tag('th', name, scope='col', tabindex='0' if is_sortable else None,
                          class_='words' if index in texts else None) for index, name in enumerate(columns)])
    body = tag('tbody')
    for row in rows:
        line = SubElement(body, 'tr')
        for index, cell in enumerate(row):
            style = None
            if index in bars and isinstance(cell, str) and cell.replace('.', '', 1).isdecimal():
                style = f'--part:{min(1.0, float(cell)):.3f}'
            line.append(tag('td' if index else 'th', cell, scope=None if index else 'row', style=style,
                            class_='bar' if style else 'words' if index in texts else None))
    return tag('div', tag('table', tag('thead', head), body, class_='sortable' if is_sortable else None),
               class_='scroll')


def facts(rows: Iterable[tuple[str, Content]]) -> Element:
    """Create a list of names and values; rows without a value are left out."""
    return tag('dl', [[tag('dt', name), tag('dd', value)] for name, value in rows if value not in (None, '', [])],
               class_='facts')


def note(*content: Content) -> Element:
    """Create a line of small text."""
    return tag('p', *content, class_='note')


def folded(title: str, *content: Content) -> Element:
    """Create a part of the page that is closed until it is clicked, and open in print."""
    return tag('details', tag('summary', title), *content)


def section(title: str, *content: Content) -> Element:
    """Create a section; its anchor is made of the title."""
    return tag('section', tag('h2', title), *content, id=anchor(title))


def anchor(title: str) -> str:
    """Return the id of the section with a title."""
    return '-'.join(''.join(each if each.isalnum() else ' ' for each in title.lower()).split())


class ImageBudget:
    """Embed images into the page until their total size reaches a limit.

    Args:
        limit: Number of bytes of all images as base64.
    """

    def __init__(self, limit: int) -> None:
        self.left = limit

    def embed(self, image: np.ndarray, description: str) -> Element | None:
        """Return an image element with the JPEG file of an image; None if the limit is reached.

        Args:
            image: Image of shape ``(H, W, 3)``, uint8, RGB.
            description: Text for readers who do not see the image.
        """
        _, content = cv2.imencode('.jpg', np.ascontiguousarray(image[..., ::-1]),
                                  [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        text = base64.b64encode(content.tobytes()).decode('ascii')
        if len(text) > self.left:
            self.left = 0  # no smaller image of a later section instead
            return None
        self.left -= len(text)
        return tag('img', src=f'data:image/jpeg;base64,{text}', alt=description, width=image.shape[1],
                   height=image.shape[0])
