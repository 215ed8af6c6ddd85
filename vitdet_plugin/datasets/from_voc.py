"""Conversion of the XML files of Pascal VOC to COCO."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vitdet_plugin.datasets.conversion import Content, Problem, check_box, list_some, probe_header
from vitdet_plugin.datasets.image_files import ImageIndex, is_image_file, walk_files
from vitdet_plugin.datasets.voc_xml import Node, object_box, read_xml, stated_size
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import read_text


def convert_voc(annotations: Path, images: Path, classes: Sequence[str] | None = None, *, one_based: bool = False,
                clip: bool = False) -> Content:
    """Convert all XML files of a folder and its subfolders.

    The image of an XML file has the same path without suffix; if there is none, ``<filename>`` names it.

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
    files = [path for path, is_hidden in walk_files(annotations) if path.suffix.lower() == '.xml' and not is_hidden]
    if not files:
        raise UserError(f'{annotations} holds no .xml files; give the folder of the annotations')
    trees: dict[PurePosixPath, Node] = {}
    problems = []
    for name in files:
        try:
            trees[name] = read_xml(annotations / name)
        except ValueError as error:
            problems.append(Problem(annotations / name, *error.args))
    if classes is None:
        names = {each.value('name') for root in trees.values() for each in root.children if each.tag == 'object'}
        classes = sorted(name for name in names if name)
    converter = _Converter(annotations, ImageIndex(images), Content(list(classes), problems=problems), one_based, clip)
    for name, root in trees.items():
        converter.add(name, root)
    return converter.finish(files)


class _Converter:
    """State of one conversion: which image belongs to which file, and counts for the notes."""

    def __init__(self, annotations: Path, index: ImageIndex, content: Content, one_based: bool, clip: bool) -> None:
        self.annotations, self.index, self.content = annotations, index, content
        self.one_based, self.clip = one_based, clip
        self.file_of: dict[PurePosixPath, PurePosixPath] = {}
        self.renamed: list[str] = []
        self.difficult = self.polygons = 0

    def add(self, name: PurePosixPath, root: Node) -> None:
        """Add the image and the objects of an XML file, or a problem."""
        file = self.annotations / name
        if root.tag != 'annotation':
            self.content.problems.append(Problem(file, root.line, f'the root is <{root.tag}>, expected <annotation>'))
            return
        image = self._image(file, name, root)
        if image is None:
            return
        self.content.by_name[name.with_suffix('').as_posix()] = image
        for each in root.children:
            if each.tag == 'object' and (fault := self._object(each, image)):
                self.content.problems.append(Problem(file, *fault))

    def finish(self, files: Sequence[PurePosixPath]) -> Content:
        """Add the notes and return the content."""
        notes = self.content.notes
        if self.difficult:
            notes.append(f'{self.difficult} objects are marked difficult; they are kept, with "difficult": 1')
        if self.polygons:
            notes.append(f'{self.polygons} objects have a polygon too; only their boxes are converted')
        if self.renamed:
            notes.append(f'{len(self.renamed)} files name another image than that of their own name, which is used: '
                         f'{list_some(self.renamed)}')
        annotated = {*self.file_of, *(path for name in files for path in self.index.with_stem(name.with_suffix('')))}
        if without := [str(path) for path in self.index.images if path not in annotated]:
            notes.append(f'{len(without)} images without an XML file are left out: {list_some(without)}')
        notes += self.index.notes()
        return self.content

    def _image(self, file: Path, name: PurePosixPath, root: Node) -> dict | None:
        """Add the image of an XML file and return its entry, or add a problem."""
        named = (root.value('filename') or '').replace('\\', '/').rsplit('/', 1)[-1]
        line = (root.find('filename') or root).line
        found = self.index.with_stem(name.with_suffix(''))
        by_name = self.index.named(named, name.parent) if named else []
        if len(found) > 1:
            found = [path for path in found if path.name == named] or found
        if found and by_name and not set(found) & set(by_name):
            self.renamed.append(f'{name} names {named}')
        found = found or by_name
        if len(found) != 1:
            reason = (f'{" and ".join(map(str, found))} have the name of this file; name one of them in <filename>'
                      if found else
                      f'neither {named or "a file name"} nor {name.stem}.* is in {self.index.folder}')
            self.content.problems.append(Problem(file, line, reason))
            return None
        path = self.index.folder / found[0]
        if found[0] in self.file_of:
            self.content.problems.append(Problem(file, line, f'{found[0]} has objects in {self.file_of[found[0]]} too; '
                                                             'join the two files'))
            return None
        self.file_of[found[0]] = name
        probe = probe_header(path)
        if isinstance(probe, str):
            self.content.problems.append(Problem(file, None, f'{path}: {probe}'))
            return None
        try:
            size = stated_size(root)
        except ValueError as error:
            self.content.problems.append(Problem(file, *error.args))
            return None
        if size is not None and size != probe.size_as_read:
            width, height = probe.size_as_read
            self.content.problems.append(Problem(
                file, (root.find('size') or root).line, f'size {size[0]:g} x {size[1]:g}, but {path.name} is {width} x '
                                                        f'{height}{probe.explain_size(size)}'))
            return None
        return self.content.add_image(str(found[0]), probe.size_as_read)

    def _object(self, each: Node, image: dict) -> tuple[int, str] | None:
        """Add an object, or return the line and the reason why it is invalid."""
        name = each.value('name')
        if name not in self.content.classes:
            return each.line, (f'class {name!r} is not one of {", ".join(self.content.classes)}' if name else
                               'an object without a name')
        try:
            box = object_box(each)
        except ValueError as error:
            line, reason = error.args
            return line, reason
        if self.one_based:
            box[:2] = box[0] - 1, box[1] - 1
        box, wrong = check_box(box, (image['width'], image['height']), self.clip)
        if wrong:
            return (each.find('bndbox') or each).line, f'{name}: {wrong}'
        x1, y1, x2, y2 = box
        is_difficult = each.value('difficult') in ('1', 'true', 'True')
        self.difficult += is_difficult
        self.polygons += each.find('polygon') is not None
        self.content.add_object(image, self.content.classes.index(name), (x1, y1, x2 - x1, y2 - y1),
                                **(dict(difficult=1) if is_difficult else {}))
        return None


def split_by_imageset(content: Content, imageset: Path) -> list[dict]:
    """Return the images that a list names, one name per line; unknown names become problems.

    A name is the path of the XML file or image without suffix; the suffix of an image is accepted.

    Raises:
        UserError: The list does not exist or is not a text file.
    """
    if not imageset.is_file():
        raise UserError(f'{imageset} does not exist; a split is a file of image names in the folder of imagesets')
    by_stem = {PurePosixPath(image['file_name']).with_suffix('').as_posix(): image for image in content.images}
    by_stem |= content.by_name
    short = Counter(PurePosixPath(key).name for key in by_stem)
    by_stem |= {PurePosixPath(key).name: image for key, image in by_stem.items()
                if short[PurePosixPath(key).name] == 1}
    chosen: list[dict] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(imageset).splitlines(), 1):
        name = line.strip().replace('\\', '/')
        if not name:
            continue
        key = name.removesuffix(Path(name).suffix) if is_image_file(Path(name)) and name not in by_stem else name
        if key in seen:
            content.problems.append(Problem(imageset, number, f'{name} is already in line {seen[key]}'))
        elif key not in by_stem:
            content.problems.append(Problem(imageset, number, f'there is no annotated image {name!r}'))
        else:
            chosen.append(by_stem[key])
        seen.setdefault(key, number)
    return chosen
