"""The files of a data set, listed once for all readers of annotation formats."""

from __future__ import annotations

import copy
import json
import os
import re
import unicodedata
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from vitdet_plugin.datasets.image_files import is_image_file, walk_files
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import decode_any, describe_encoding

SPLIT_OF = {'train': 'train', 'training': 'train', 'trn': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
            'dev': 'val', 'test': 'test', 'testing': 'test', 'tst': 'test'}
_HEAD_BYTES = 64 << 10
_IMAGE_FOLDERS = ('images', 'jpegimages', 'imgs', 'img')
_COMPARED = 20  # images of a folder
_KEPT_BYTES = 256 << 20  # of parsed JSON files; one larger file is kept too


class FileTree:
    """The files below a folder without hidden ones.

    Args:
        path: Folder, or the annotation file that the user named.
        images: Folder of the images if the annotations are in another one.

    Attributes:
        root: The folder.
        image_root: Folder of the images, by default the same.
        chosen: The annotation file that the user named in place of a folder, or a folder without images, otherwise
            None. Images are searched for below the folder of the file, or below the parent if it holds no images.
        images: Paths of images relative to ``image_root``, sorted.
        others: Paths of all other files relative to ``root``, sorted; only those of ``chosen`` if there is one.
        others_of_images: Paths of the other files below ``image_root``, sorted.
        hidden: Number of hidden image files, such as the ``._a.png`` of macOS.
        encodings: Encoding of each file that was read and is not UTF-8.
        json_errors: Message for each file that :meth:`read_json` could not parse.

    Raises:
        UserError: The path does not exist.
    """

    def __init__(self, path: Path, images: Path | None = None) -> None:
        if not path.exists():
            raise UserError(f'{path} does not exist; give a folder of images and annotations, or an annotation file')
        self.chosen = path if path.is_file() else None
        self.root = path.parent if self.chosen else path
        self.image_root = images or self.root
        self.hidden = 0
        self.others_of_images: list[PurePosixPath] = []
        self.images: list[PurePosixPath] = []
        self.others: list[PurePosixPath] = []
        self.encodings: dict[PurePosixPath, str] = {}
        self.json_errors: dict[PurePosixPath, str] = {}
        self._by_name: dict[str, list[PurePosixPath]] = {}
        self._by_stem: dict[str, list[PurePosixPath]] = {}
        self._by_folder: dict[PurePosixPath, list[PurePosixPath]] = {}
        self._other_forms: dict[tuple[PurePosixPath, str], bool] = {}
        self._json: OrderedDict[PurePosixPath, tuple[int, Any]] = OrderedDict()
        self._json_size = 0
        self._list()
        parent = self.root.resolve().parent
        if images is None and self.others and not self.images and parent != self.root.resolve():
            self.chosen = path.resolve()  # ``annotations/train.json`` or ``annotations`` next to ``images``
            self.root = self.image_root = parent
            self._list()

    def _list(self) -> None:
        images, self.others_of_images, self.hidden = [], [], 0
        for file, is_hidden in walk_files(self.image_root):
            if is_image_file(Path(file)):
                self.hidden += is_hidden
                images += [file] * (not is_hidden)
            elif not is_hidden:
                self.others_of_images.append(file)
        self._index(images)
        others = self.others_of_images
        if self.root != self.image_root:
            others = [file for file, is_hidden in walk_files(self.root)
                      if not is_hidden and not is_image_file(Path(file))]
        self.others = [file for file in others
                       if self.chosen is None or (self.root / file).is_relative_to(self.chosen)]

    def _index(self, images: list[PurePosixPath]) -> None:
        self.images = images
        self._by_name, self._by_stem, self._by_folder = defaultdict(list), defaultdict(list), defaultdict(list)
        self._other_forms = {}
        for file in images:
            self._by_name[fold(file.name)].append(file)
            self._by_stem[fold(file.stem)].append(file)
            self._by_folder[file.parent].append(file)

    def without_folders(self, *names: str) -> FileTree:
        """Return the tree without the images in folders of these names (lower case) at any depth."""
        if not names:
            return self
        found = copy.copy(self)
        found._index([file for file in self.images if not set(map(str.lower, file.parts[:-1])) & set(names)])
        return found

    def with_suffix(self, *suffixes: str) -> list[PurePosixPath]:
        """Return the other files with one of the suffixes (lower case), written in upper or lower case."""
        return [file for file in self.others if file.suffix.lower() in suffixes]

    def with_stem(self, stem: str) -> list[PurePosixPath]:
        """Return the images with this name without suffix, in upper or lower case."""
        return self._by_stem.get(fold(stem), [])

    def is_other_form(self, file: PurePosixPath, suffix: str = '') -> bool:
        """Whether an image is a mask, a drawing or another form of the images in a folder such as ``images``.

        It is if most images of its folder have the names of images there, and are not copies of them.

        Args:
            file: The image, relative to ``image_root``.
            suffix: Suffix that the images have whose forms they may be; by default any.
        """
        key = file.parent, suffix.lower()
        if key not in self._other_forms:
            rank, files = _rank(file.parent), self._by_folder[file.parent]
            pairs = [(each, twins[0]) for each in files if (twins := [
                twin for twin in self.with_stem(each.stem)
                if _rank(twin.parent) > rank and key[1] in ('', twin.suffix.lower())])]
            compared = pairs[::max(len(pairs) // _COMPARED, 1)][:_COMPARED]
            self._other_forms[key] = 2 * len(pairs) > len(files) and 2 * sum(
                _file_size(self.path(a)) != _file_size(self.path(b)) for a, b in compared) > len(compared)
        return self._other_forms[key]

    def path(self, file: PurePosixPath) -> Path:
        """Return the path of a file in ``images`` or ``others``."""
        return (self.image_root if is_image_file(Path(file)) else self.root) / file

    def inside(self, path: Path) -> PurePosixPath:
        """Return the path of an image relative to ``image_root``."""
        return PurePosixPath(path.relative_to(self.image_root).as_posix())

    def read_text(self, file: PurePosixPath) -> str | None:
        """Return the text of a file in UTF-8, UTF-16, GBK or Latin-1; None if it is binary or cannot be opened."""
        try:
            text, encoding = decode_any(self.path(file).read_bytes())
        except (UnicodeDecodeError, OSError):
            return None
        self.note_encoding(file, encoding)
        return text

    def note_encoding(self, file: PurePosixPath, encoding: str) -> None:
        """Record as which encoding a file was read, for :meth:`note_encodings`."""
        self.encodings.pop(file, None)
        if encoding != 'UTF-8':
            self.encodings[file] = encoding

    def read_json(self, file: PurePosixPath) -> Any:
        """Return the content of a JSON file; None if it is not JSON. The last files are kept for other readers."""
        if file not in self._json:
            text = self.read_text(file)
            content = None
            if text is None and (fault := self._describe_bytes(file)):
                self.json_errors[file] = fault
            try:
                content = None if text is None else json.loads(text)
            except (ValueError, RecursionError) as error:
                self.json_errors[file] = str(error).splitlines()[0]
            self._json[file] = len(text or ''), content
            self._json_size += len(text or '')
            while len(self._json) > 1 and self._json_size > _KEPT_BYTES:
                self._json_size -= self._json.popitem(last=False)[1][0]
        return self._json[file][1]

    def _describe_bytes(self, file: PurePosixPath) -> str:
        try:
            return describe_encoding(self.path(file).read_bytes())
        except OSError as error:
            return str(error.strerror)

    def begins_with_any(self, file: PurePosixPath, *words: str) -> bool:
        """Whether the first 64 KiB of a file contain one of the words; cheaper than to parse each JSON file."""
        try:
            with self.path(file).open('rb') as stream:
                head = stream.read(_HEAD_BYTES)
        except OSError:
            return False
        return any(word.encode(encoding) in head for word in words for encoding in ('utf-8', 'utf-16-le', 'utf-16-be'))

    def note_encodings(self) -> list[str]:
        """Return a note for each encoding other than UTF-8 that was found."""
        files = defaultdict(list)
        for file, encoding in self.encodings.items():
            files[encoding].append(str(file))
        return [f'{len(names)} files are read as {encoding}: {names[0]}{", …" if len(names) > 1 else ""}'
                for encoding, names in sorted(files.items())]

    def find_image(self, name: str, near: PurePosixPath, split: str | None = None) -> Path | str:
        """Find the image that an annotation file names.

        Tried in this order: the name relative to the folder of the annotation file, relative to the root, each
        without leading parts; then the file name alone anywhere, in upper or lower case; then the name without suffix
        likewise. Of several, those count that agree with the most folders of the name, are of the split, are nearest
        to the annotation file, and are in a folder of images. A mask or drawing of that name does not replace an image
        that is missing, see :meth:`is_other_form`.

        Args:
            name: Name or path as written by the labeling tool; ``\\`` counts as ``/``, ``%20`` as a blank, and query
                parts of URLs are ignored.
            near: The annotation file, relative to the root.
            split: Split that the annotation file states.

        Returns:
            The path, or the reason why none was found.
        """
        found: Path | str = 'no image is named'
        plain = name.strip().split('?')[0]
        for text in dict.fromkeys((name.strip(), plain, unquote(plain))):
            parts = [part for part in re.split(r'[\\/]+', text) if part not in ('', '.')]
            if parts and parts[-1] != '..' and '\0' not in text:
                found = self._find_parts(parts, near, split)
            if isinstance(found, Path):
                break
        return found

    def _find_parts(self, parts: list[str], near: PurePosixPath, split: str | None) -> Path | str:
        name = '/'.join(parts)
        for folder in (near.parent, PurePosixPath('.')):
            inside = os.path.normpath(folder / name)
            if not inside.startswith('..') and is_image_file(Path(inside)) and _is_file(self.image_root / inside):
                return self.image_root / inside
        plain = [part for part in parts if part != '..']
        for start in range(len(plain) - 1):
            for folder in (near.parent, PurePosixPath('.')):
                path = self.image_root / folder / PurePosixPath(*plain[start:])
                if is_image_file(path) and _is_file(path):
                    return path
        last = PurePosixPath(plain[-1])
        for found in (self._by_name.get(fold(last.name), []), self._by_stem.get(fold(last.name), []),
                      self._by_stem.get(fold(last.stem), [])):
            found = _best(found, lambda file: _count_equal(file.parts[-2::-1], plain[-2::-1]))
            found = _best(found, lambda file: split is not None and split_of(file) == split)
            found = _best(found, lambda file: len({*file.parts[:-1]} & {*near.parts[:-1]}))
            found = _best(found, lambda file: _count_equal(file.parts[:-1], near.parts[:-1]))
            found = _best(found, lambda file: file.name == last.name)
            found = _best(found, lambda file: bool({*map(str.lower, file.parts[:-1])} & {*_IMAGE_FOLDERS}))
            if len(found) == 1 and not self.is_other_form(found[0], last.suffix if is_image_file(Path(last)) else ''):
                return self.image_root / found[0]
            if len(found) > 1:
                return f'{name} is the name of {len(found)} images ({found[0]}, {found[1]})'
        return f'the image {name} is not below {self.image_root}'


def fold(name: str) -> str:
    """Return a name for comparisons: lower case, and ``ü`` as one character, also if macOS stored ``u`` and dots."""
    return unicodedata.normalize('NFC', name).lower()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


def _rank(folder: PurePosixPath) -> int:
    """Return how likely a folder holds the images themselves, by its name."""
    parts = [part.lower() for part in folder.parts]
    return 0 if any('mask' in part for part in parts) else 2 if {*parts} & {*_IMAGE_FOLDERS} else 1


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _best(files: list[PurePosixPath], score: Callable[[PurePosixPath], int]) -> list[PurePosixPath]:
    """Return the files of the highest score."""
    scores = [score(file) for file in files]
    return [file for file, each in zip(files, scores) if each == max(scores)]


def _count_equal(a: Sequence[str], b: Sequence[str]) -> int:
    """Return the number of leading parts that are equal."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def split_of(file: PurePosixPath) -> str | None:
    """Return ``train``, ``val`` or ``test`` if a folder of the path, or its name, states the split.

    A folder counts if its whole name is a word of :data:`SPLIT_OF` with perhaps a year (``train2017``); a file name
    if one of its words is (``instances_val.json``, ``_train.csv``).
    """
    for part in reversed(file.parts[:-1]):
        if found := SPLIT_OF.get(re.sub(r'[\d_.-]*$', '', part.lower())):
            return found
    words = [word for word in re.split(r'[^a-z]+', file.stem.lower()) if word in SPLIT_OF]
    return SPLIT_OF[words[0]] if len(words) == 1 and file.suffix.lower() in ('.json', '.csv', '.txt', '.xml') else None
