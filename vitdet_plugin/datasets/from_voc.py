"""Conversion of the XML files of Pascal VOC to COCO."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax import ContentHandler, SAXParseException

from vitdet_plugin.datasets.conversion import Content, Problem, check_box, read_image_size
from vitdet_plugin.datasets.image_files import find_image
from vitdet_plugin.errors import UserError

_SIDES = ('xmin', 'ymin', 'xmax', 'ymax')


@dataclass
class Node:
    """An XML element with its line number."""

    tag: str
    line: int
    text: str = ''
    children: list[Node] = field(default_factory=list)

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
        node = Node(name, self._locator.getLineNumber())
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
    from defusedxml.sax import parse
    builder = _TreeBuilder()
    try:
        with path.open('rb') as file:
            parse(file, builder)
    except SAXParseException as error:
        raise ValueError(error.getLineNumber(), f'not valid XML: {error.getMessage()}') from None
    except DefusedXmlException as error:
        raise ValueError(None, f'refused: the XML defines or fetches entities ({type(error).__name__})') from None
    return builder.root


def convert_voc(annotations: Path, images: Path, classes: Sequence[str] | None = None, *, one_based: bool = False,
                clip: bool = False) -> Content:
    """Convert all XML files of a folder.

    Args:
        annotations: Folder of the XML files.
        images: Folder of the images.
        classes: Names in the order of the labels; by default all names that occur, sorted.
        one_based: Coordinates count pixels from 1 and include the last one, as in the files of the VOC challenges;
            xmin and ymin are reduced by one. By default coordinates are used as they are, which is what most labeling
            tools write.
        clip: See :func:`check_box`.

    Raises:
        UserError: There are no XML files.
    """
    files = sorted(annotations.glob('*.xml'))
    if not files:
        raise UserError(f'{annotations} holds no .xml files; give the folder of the annotations')
    trees, problems = {}, []
    for file in files:
        try:
            trees[file] = read_xml(file)
        except ValueError as error:
            problems.append(Problem(file, *error.args))
    if classes is None:
        names = {each.value('name') for root in trees.values() for each in root.children if each.tag == 'object'}
        classes = sorted(name for name in names if name)
    content = Content(list(classes), problems=problems)
    difficult = 0
    for file, root in trees.items():
        image = _image(content, file, root, images)
        if image is not None:
            difficult += _objects(content, file, root, image, one_based, clip)
    if difficult:
        content.notes.append(f'{difficult} objects are marked difficult; they are kept, with "difficult": 1')
    return content


def _image(content: Content, file: Path, root: Node, folder: Path) -> dict | None:
    named = (root.value('filename') or '').replace('\\', '/').rsplit('/', 1)[-1]
    path = folder / named if named and (folder / named).is_file() else find_image(folder, file.stem)
    if path is None:
        content.problems.append(Problem(file, (root.find('filename') or root).line,
                                        f'neither {named or "a file name"} nor {file.stem}.* is in {folder}'))
        return None
    size = read_image_size(path)
    if isinstance(size, str):
        content.problems.append(Problem(file, None, f'{path}: {size}'))
        return None
    stated = root.find('size')
    if stated is not None and (stated.value('width'), stated.value('height')) not in ((str(size[0]), str(size[1])),
                                                                                    ('0', '0')):
        content.problems.append(Problem(file, stated.line, f'size {stated.value("width")} x {stated.value("height")}, '
                                                           f'but {path.name} is {size[0]} x {size[1]}'))
        return None
    image = dict(id=len(content.images) + 1, file_name=path.name, width=size[0], height=size[1])
    content.images.append(image)
    return image


def _objects(content: Content, file: Path, root: Node, image: dict, one_based: bool, clip: bool) -> int:
    difficult = 0
    for each in (child for child in root.children if child.tag == 'object'):
        name, bounds = each.value('name'), each.find('bndbox')
        if name not in content.classes:
            content.problems.append(Problem(file, each.line,
                                            f'class {name!r} is not one of {", ".join(content.classes)}'
                                            if name else 'an object without a name'))
            continue
        texts = [bounds.value(side) if bounds is not None else None for side in _SIDES]
        try:
            box = [float(text) for text in texts]
        except (TypeError, ValueError):
            box = [math.nan] * 4
        if one_based:
            box[:2] = box[0] - 1, box[1] - 1
        line = (bounds or each).line
        if any(math.isnan(value) for value in box):
            found = ', '.join(f'{side} {text!r}' for side, text in zip(_SIDES, texts))
            content.problems.append(Problem(file, line, f'{name}: a box needs four numbers, found {found}'))
            continue
        box, wrong = check_box(box, (image['width'], image['height']), clip)
        if wrong:
            content.problems.append(Problem(file, line, f'{name}: {wrong}'))
            continue
        x1, y1, x2, y2 = box
        is_difficult = each.value('difficult') == '1'
        difficult += is_difficult
        content.add_object(image, content.classes.index(name), (x1, y1, x2 - x1, y2 - y1),
                           **(dict(difficult=1) if is_difficult else {}))
    return difficult


def split_by_imageset(content: Content, imageset: Path) -> list[dict]:
    """Return the images that a list names, one name without suffix per line; unknown names become problems.

    Raises:
        UserError: The list does not exist.
    """
    if not imageset.is_file():
        raise UserError(f'{imageset} does not exist; a split is a file of image names in the folder of imagesets')
    by_stem = {Path(image['file_name']).stem: image for image in content.images}
    chosen, seen = [], {}
    for number, line in enumerate(imageset.read_text(encoding='utf-8').splitlines(), 1):
        name = line.strip()
        if not name:
            continue
        if name in seen:
            content.problems.append(Problem(imageset, number, f'{name} is already in line {seen[name]}'))
        elif name not in by_stem:
            content.problems.append(Problem(imageset, number, f'there is no annotated image {name!r}'))
        else:
            chosen.append(by_stem[name])
        seen.setdefault(name, number)
    return chosen
