"""The files of a data set, listed once for all readers of annotation formats."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from vitdet_plugin.datasets.image_files import is_image_file, walk_files
from vitdet_plugin.utils.text_files import read_text

SPLIT_OF = {'train': 'train', 'training': 'train', 'trn': 'train', 'val': 'val', 'valid': 'val', 'validation': 'val',
            'dev': 'val', 'test': 'test', 'testing': 'test', 'tst': 'test'}


class FileTree:
    """The files below a folder without hidden ones.

    Attributes:
        root: The folder.
        chosen: The file that the user named in place of a folder, otherwise None: an annotation file; images are
            searched for below its folder.
        images: Paths of images relative to ``root``, sorted.
        others: Paths of all other files relative to ``root``, sorted; only ``chosen`` if the user named a file.
    """

    def __init__(self, path: Path) -> None:
        self.chosen = path if path.is_file() else None
        self.root = path.parent if self.chosen else path
        self.images: list[PurePosixPath] = []
        self.others: list[PurePosixPath] = []
        self._by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
        self._by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
        self._json: dict[PurePosixPath, Any] = {}
        for file, is_hidden in walk_files(self.root):
            if is_hidden:
                continue
            if is_image_file(Path(file)):
                self.images.append(file)
                self._by_name[file.name.lower()].append(file)
                self._by_stem[file.stem.lower()].append(file)
            elif self.chosen is None or self.root / file == self.chosen:
                self.others.append(file)

    def with_suffix(self, *suffixes: str) -> list[PurePosixPath]:
        """Return the other files with one of the suffixes (lower case), in any spelling of case."""
        return [file for file in self.others if file.suffix.lower() in suffixes]

    def path(self, file: PurePosixPath) -> Path:
        """Return the path of a file in ``images`` or ``others``."""
        return self.root / file

    def read_json(self, file: PurePosixPath) -> Any:
        """Return the content of a JSON file, parsed once; None if it is not JSON."""
        if file not in self._json:
            try:
                self._json[file] = json.loads(read_text(self.path(file)))
            except Exception:  # noqa: BLE001 - UserError of the reader, or not JSON: not a file of any format here
                self._json[file] = None
        return self._json[file]

    def find_image(self, name: str, near: PurePosixPath) -> Path | str:
        """Find the image that an annotation file names.

        Tried in this order: the name relative to the folder of the annotation file, relative to the root, each
        without leading parts; then the file name alone anywhere if it occurs once, nearest folder first; then the name
        without suffix likewise.

        Args:
            name: Name or path as written by the labeling tool; ``\\`` counts as ``/``, and query parts of URLs are
                ignored.
            near: The annotation file, relative to the root.

        Returns:
            The path, or the reason why none was found.
        """
        parts = [part for part in re.split(r'[\\/]+', name.strip().split('?')[0]) if part not in ('', '.')]
        if not parts:
            return 'no image is named'
        for start in range(len(parts)):
            if '..' in parts[start:]:
                continue
            for folder in (near.parent, PurePosixPath('.')):
                path = self.root / folder / PurePosixPath(*parts[start:])
                if path.is_file() and is_image_file(path):
                    return path
        last = PurePosixPath(parts[-1])
        for found in (self._by_name.get(last.name.lower(), []),
                      self._by_stem.get(last.name.lower(), []), self._by_stem.get(last.stem.lower(), [])):
            if found := self._nearest(found, near):
                if len(found) == 1:
                    return self.root / found[0]
                return f'{name} is the name of {len(found)} images ({found[0]}, {found[1]})'
        return f'the image {name} is not below {self.root}'

    @staticmethod
    def _nearest(found: list[PurePosixPath], near: PurePosixPath) -> list[PurePosixPath]:
        """Return the files that share the most leading folders with ``near``."""
        def shared(file: PurePosixPath) -> int:
            count = 0
            for a, b in zip(file.parts[:-1], near.parts[:-1]):
                if a != b:
                    break
                count += 1
            return count
        most = max(map(shared, found), default=0)
        return [file for file in found if shared(file) == most]


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
