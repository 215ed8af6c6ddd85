"""Pascal VOC: an XML file for each image, in any folder."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vitdet_plugin.coco.masks import mask_area
from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats.base import Format, LastResort, SourceImage, SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree, split_of
from vitdet_plugin.datasets.voc_xml import Node, object_box, read_xml, stated_size
from vitdet_plugin.utils.track import track

_TRIED_FILES = 20
# after a declaration and comments
_ROOT = re.compile(r'[\s\ufeff]*((<\?[^>]*>|<!--((?!-->).)*-->|<![^>]*>)\s*)*<annotation[\s>]', re.DOTALL)
_ENTRY = re.compile(r'<(object|size|filename)[\s>/]')
_OF_CHALLENGE = re.compile(r'\bVOC\s?20\d\d\b')  # <database>The VOC2007 Database, <annotation>PASCAL VOC2012
_MASK_FOLDERS = ('segmentationclass', 'segmentationobject', 'segmentationclassaug', 'segmentationclassraw')
_LISTS = ('train', 'val', 'test', 'trainval')


def recognize_voc(tree: FileTree) -> str | None:
    """Return the evidence for XML files of VOC, see :class:`Format`."""
    files = tree.with_suffix('.xml')
    tried = files[:_TRIED_FILES]
    texts = [tree.read_text(file) or '' for file in tried]
    fitting = [file for file, text in zip(tried, texts) if _ROOT.match(text[:4096].lower()) and
               _ENTRY.search(text.lower())]
    if not fitting or 2 * len(fitting) < len(tried):
        return None
    evidence = f'{len(files)} XML files with the root <annotation>, such as {fitting[0]}'
    reader = VocReader(tree)
    for file in fitting:
        try:
            if isinstance(reader.find(file, read_xml(tree.path(file), guess_encoding=True)), Path):
                return evidence
        except ValueError:
            continue
    return LastResort(f'{evidence}; none of the images was found')


def read_voc(tree: FileTree) -> SourceSet:
    """Read all XML files below the folder, see :class:`Format`."""
    reader = VocReader(tree)
    reader.read_all()
    return reader.found


class VocReader:
    """Reads XML files; splits and counts over all of them.

    Args:
        tree: The files.
        classes: Class names in the order of the labels, other names are problems; by default those that occur, sorted.
        is_one_based: Whether coordinates count pixels from 1 and include the last one, so that xmin and ymin are
            reduced by one; by default in files that state that they are of a VOC challenge.
        guess_encoding: See :func:`read_xml`.

    Attributes:
        found: The data set.
        image_of: Image of each XML file that was read.
    """

    def __init__(self, tree: FileTree, classes: Sequence[str] | None = None, is_one_based: bool | None = None,
                 guess_encoding: bool = True) -> None:
        self.tree, self.found = tree.without_folders(*_MASK_FOLDERS), SourceSet('voc')
        self.image_of: dict[PurePosixPath, SourceImage] = {}
        self._classes, self._is_one_based, self._guess_encoding = classes, is_one_based, guess_encoding
        self._masks = len(tree.images) - len(self.tree.images)
        self._counts: Counter[str] = Counter()
        self._renamed: list[str] = []
        self._file_of: dict[Path, PurePosixPath] = {}
        self._splits = _read_lists(tree, self.found)

    def read_all(self) -> None:
        """Read all XML files, set the classes and add notes."""
        files = self.tree.with_suffix('.xml')
        for file in track(files, len(files), 'XML files'):
            self.read(file)
        if self._classes is None:
            self.found.sort_classes()
        else:
            self.found.classes = list(self._classes)
        self._add_notes()
        self.found.note_unused(self.tree, 'have no XML file and are left out')

    def read(self, file: PurePosixPath) -> None:
        """Add the image and the objects of an XML file, or a problem."""
        where = self.tree.path(file)
        try:
            root = read_xml(where, self._guess_encoding)
            self.tree.note_encoding(file, root.encoding)
            if root.tag != 'annotation':
                raise ValueError(root.line, f'the root is <{root.tag}>, expected <annotation>')
            size = stated_size(root)
        except ValueError as error:
            self.found.problems.append(Problem(where, *error.args))
            return
        path = self.find(file, root)
        line = (root.find('filename') or root).line
        objects = [each for each in root.children if each.tag == 'object']
        count = f'; its {len(objects)} objects are left out' if objects else ''
        if isinstance(path, str):
            self.found.problems.append(Problem(where, line, f'{path}{count}'))
            return
        if path in self._file_of:
            self.found.problems.append(Problem(where, line, f'{path.name} has objects in {self._file_of[path]} too; '
                                                            f'join the two files{count}'))
            return
        split = self._splits.get(file) or (split_of(file) or split_of(self.tree.inside(path)) if not self._splits else
                                           None)
        image = self.found.add_image(path, split, None, where, line=(root.find('size') or root).line if size else line,
                                     size=size)
        if image is None:
            self.found.problems[-1] = Problem(where, self.found.problems[-1].line, self.found.problems[-1].text + count)
            return
        self.image_of[file], self._file_of[path] = image, file
        is_one_based = self._is_one_based
        if is_one_based is None:
            source = root.find('source') or root
            is_one_based = any(_OF_CHALLENGE.search(source.value(tag) or '') for tag in ('database', 'annotation'))
            self._counts['one_based'] += is_one_based
        self._counts['segmented'] += root.value('segmented') == '1'
        for each in objects:
            self._object(where, each, image, is_one_based)

    def find(self, file: PurePosixPath, root: Node) -> Path | str:
        """Find the image of an XML file: that of its own name, else that of ``<filename>`` or ``<path>``."""
        split = split_of(file)
        found = self.tree.find_image(file.stem, file, split)
        named = root.value('filename') or (root.value('path') or '')
        by_name = self.tree.find_image(named, file, split) if named else 'no <filename>'
        if isinstance(found, Path) and isinstance(by_name, Path) and found != by_name:
            self._renamed.append(f'{file} names {named}')
        if isinstance(found, Path):
            return found
        if isinstance(by_name, Path):
            return by_name
        several = list(map(str, self.tree.with_stem(file.stem)))
        if len(several) > 1:
            return f'{" and ".join(several)} have the name of this file; name one of them in <filename>'
        return f'neither {named or "a file name"} nor {file.stem}.* is one image below {self.tree.image_root}'

    def _object(self, where: Path, each: Node, image: SourceImage, is_one_based: bool) -> None:
        if each.value('deleted') == '1':
            self._counts['deleted'] += 1
            return
        name = each.value('name') or ''
        if name and self._classes is not None and name not in self._classes:
            self.found.problems.append(Problem(where, each.line, f'class {name!r} is not one of '
                                                                 f'{", ".join(self._classes)}'))
            return
        mask, box, line = _polygons(each), None, (each.find('bndbox') or each).line
        if mask is not None and not mask_area(mask):
            self._counts['lost_masks'] += 1
            mask = None
        if mask is None or each.find('bndbox') is not None:
            try:
                box = object_box(each)
            except ValueError as error:
                self.found.refuse_object(image, Problem(where, *error.args))
                return
            if is_one_based:
                box[:2] = box[0] - 1, box[1] - 1
        if found := self.found.add_object(image, name, where, line, box=box, mask=mask):
            found.is_difficult = each.value('difficult') in ('1', 'true', 'True')
            self._counts['difficult'] += found.is_difficult
            self._counts['parts'] += any(child.tag == 'part' for child in each.children)

    def _add_notes(self) -> None:
        """Add the remarks with counts."""
        counts, notes = self._counts, self.found.notes
        if counts['one_based']:
            notes.append(f'{counts["one_based"]} files are of the VOC challenges, which count pixels from 1; xmin and '
                         'ymin are reduced by 1')
        for key, text in (('difficult', 'objects are marked difficult; they are kept, with "difficult": 1'),
                          ('deleted', 'objects are marked deleted and are left out'),
                          ('parts', 'objects have parts, which are not read'),
                          ('lost_masks', 'polygons enclose nothing; only the boxes of these objects are read'),
                          ('segmented', 'files say that a segmentation exists')):
            if counts[key]:
                notes.append(f'{counts[key]} {text}')
        if self._masks:
            notes.append(f'{self._masks} images in folders of segmentations are not read; --format '
                         'mask-png reads them in place of the boxes')
        if self._renamed:
            notes.append(f'{len(self._renamed)} files name another image than that of their own name, which is used: '
                         f'{list_some(self._renamed)}')
        if self._splits and (without := len(self.found.images) - sum(image.split is not None
                                                                    for image in self.found.images)):
            notes.append(f'{without} annotated images are in no list of a split')
        notes += self.tree.note_encodings()


def _polygons(each: Node) -> list[list[float]] | None:
    """Return the polygons of an object, with corners as ``x1 y1 x2 y2 …`` or as ``pt``; None if it has none.

    A polygon that is not readable is empty.
    """
    found = []
    for polygon in each.children:
        if polygon.tag != 'polygon':
            continue
        points = [child for child in polygon.children if child.tag in ('pt', 'point')]
        try:
            if points:
                found.append([float(point.value(axis)) for point in points for axis in 'xy'])  # type: ignore[arg-type]
            else:
                values = {child.tag: float(child.text) for child in polygon.children
                          if re.fullmatch(r'[xy]\d+', child.tag)}
                numbers = sorted({int(tag[1:]) for tag in values})
                found.append([values[f'{axis}{number}'] for number in numbers for axis in 'xy'])
        except (TypeError, ValueError, KeyError):
            found.append([])
    return found or None


def _read_lists(tree: FileTree, found: SourceSet) -> dict[PurePosixPath, str]:
    """Return the split of each XML file by the lists in ``ImageSets/Main``, or in another folder with such lists."""
    by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
    for file in tree.with_suffix('.xml'):
        by_stem[file.stem].append(file)
    folders: dict[PurePosixPath, dict[str, PurePosixPath]] = defaultdict(dict)
    for file in tree.with_suffix('.txt'):
        if file.stem.lower() in _LISTS:
            folders[file.parent][file.stem.lower()] = file
    for folder in sorted(folders, key=lambda each: (each.name.lower() != 'main', each)):
        lists = folders[folder]
        members = {name: _members(tree, lists[name], by_stem) for name in _LISTS if name in lists}
        if not any(files for files, _ in members.values()):
            continue
        splits: dict[PurePosixPath, str] = {}
        several = []
        for name, (files, missing) in members.items():
            if name == 'trainval':
                if 'train' in members or 'val' in members:
                    continue
                name = 'train'
            several += [str(file) for file in files if splits.setdefault(file, name) != name]
            if missing:
                found.notes.append(f'{folder / name}.txt names {len(missing)} images without an XML file: '
                                   f'{list_some(missing)}')
        if several:
            found.notes.append(f'{len(several)} files are in several lists; the first of train, val and test counts: '
                               f'{list_some(several)}')
        return splits
    return {}


def _members(tree: FileTree, file: PurePosixPath, by_stem: dict[str, list[PurePosixPath]]
             ) -> tuple[list[PurePosixPath], list[str]]:
    """Return the XML files that a list names, and the names without one."""
    files, missing = [], []
    for line in (tree.read_text(file) or '').splitlines():
        name = line.strip().replace('\\', '/')
        if not name:
            continue
        path = PurePosixPath(name)
        found = by_stem.get(path.name) or by_stem.get(path.stem) or []
        if len(found) > 1:
            parts = path.with_suffix('').parts
            found = [each for each in found if each.with_suffix('').parts[-len(parts):] == parts]
        if len(found) == 1:
            files.append(found[0])
        else:
            missing.append(name)
    return files, missing


FORMAT = Format('voc', 'XML files with the root <annotation> and <object> with <bndbox>, as of Pascal VOC or LabelImg',
                recognize_voc, read_voc)
