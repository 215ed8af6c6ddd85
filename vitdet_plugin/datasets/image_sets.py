"""Sets of pictures as people keep them: a folder of classes, a list file, a COCO json; with or without splits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitdet_plugin.datasets.image_suffixes import IMAGE_SUFFIXES, is_picture
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text import suggest

TRAIN_NAMES = ('train', 'training')
SPLIT_NAMES = (*TRAIN_NAMES, 'val', 'valid', 'validation', 'test', 'testing')


@dataclass
class ImageSet:
    """One split of a data set.

    Attributes:
        name: of the split, for tables: a folder's or a file's name.
        root: folder that ``files`` are relative to.
        classes: names of the labels.
        files: pictures, relative to ``root``, with ``/``.
        labels: one index into ``classes`` a picture; None for a detection set.
        objects: annotations of each picture as in the COCO file, ``category_id`` replaced by the index ``label``; None
            for a classification set.
        sizes: (width, height) of each picture as a COCO file states them; None where it does not.
        other_files: files under ``root`` that are no pictures by their suffix.
    """

    name: str
    root: Path
    classes: list[str]
    files: list[str]
    labels: list[int] | None = None
    objects: list[list[dict]] | None = None
    sizes: list[tuple[int, int] | None] | None = None
    other_files: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def path(self, index: int) -> Path:
        return self.root / self.files[index]


def open_image_sets(folder: str | Path, ann_files: Sequence[str | Path] = ()) -> list[ImageSet]:
    """Find what a folder holds.

    Args:
        folder: a folder of classes; or a folder with ``train`` and perhaps ``val`` and ``test``, each a folder of
            classes; or, with ``ann_files``, the folder that the files' picture names are relative to.
        ann_files: COCO json files, or mmpretrain's list files (``path label`` a line).

    Returns:
        At least one set, none of them empty.

    Raises:
        UserError: the folder or a file is missing, or holds no pictures in any of these layouts.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder} is no folder; give the folder of the pictures')
    if ann_files:
        paths = [Path(file) for file in ann_files]
        sets = [read_coco(folder, file) if file.suffix == '.json' else read_list(folder, file) for file in paths]
    else:
        splits = [child for child in _folders(folder) if child.name.lower() in SPLIT_NAMES and _folders(child)]
        known_order = sorted(splits, key=lambda child: SPLIT_NAMES.index(child.name.lower()))
        classes = sorted({child.name for split in splits for child in _folders(split)}) or None
        sets = [read_class_folders(split, classes) for split in known_order] or [read_class_folders(folder)]
    return sets


def training_set(folder: str | Path, ann_files: Sequence[str | Path] = ()) -> ImageSet:
    """The set to learn from: ``train`` where there are splits; otherwise the one there is.

    Raises:
        UserError: several sets and none of them called train.
    """
    sets = open_image_sets(folder, ann_files)
    if len(sets) == 1:
        return sets[0]
    training = [each for each in sets if each.name.lower() in TRAIN_NAMES or ann_files and 'train' in each.name.lower()]
    if len(training) != 1:
        raise UserError(f'{folder} holds {", ".join(each.name for each in sets)}; give the training split alone')
    return training[0]


def read_class_folders(root: Path, classes: Sequence[str] | None = None) -> ImageSet:
    """``root/<class>/**/<picture>``; the classes are the folders in sorted order, as mmpretrain numbers them.

    Raises:
        UserError: no folders, or no pictures in any of them.
    """
    folders = _folders(root)
    classes = list(classes or [folder.name for folder in folders])
    found = ImageSet(root.name, root, classes, [], [])
    for folder in folders:
        for path in sorted(folder.rglob('*')):
            name = path.relative_to(root).as_posix()
            if any(part.startswith('.') for part in path.relative_to(root).parts) or not path.is_file():
                continue
            if is_picture(path):
                found.files.append(name)
                found.labels.append(classes.index(folder.name))
            else:
                found.other_files.append(name)
    if not found.files:
        has = f'{len(folders)} folders without pictures' if folders else 'no folders'
        raise UserError(f'{root} has {has}; expected <class name>/<picture> in it ({", ".join(IMAGE_SUFFIXES[:6])} …); '
                        'for COCO files give --ann FILE.json')
    return found


def read_list(root: Path, file: Path) -> ImageSet:
    """mmpretrain's annotation list: ``relative/path with blanks.png 3`` a line; ``classes.txt`` beside it is read.

    Raises:
        UserError: the file is missing or empty, or a line has no label.
    """
    found = ImageSet(file.stem, root, [], [], [])
    for number, line in enumerate(_text(file).splitlines(), 1):
        if not line.strip():
            continue
        name, blank, label = line.strip().rpartition(' ')
        if not blank or not label.isdigit():
            raise UserError(f'{file}, line {number}: expected "path label" with a whole number, found {line.strip()!r}')
        found.files.append(name)
        found.labels.append(int(label))
    if not found.files:
        raise UserError(f'{file} lists no pictures')
    names = file.with_name('classes.txt')
    count = max(found.labels) + 1
    found.classes = names.read_text(encoding='utf-8').splitlines() if names.is_file() else []
    found.classes += [f'class {index}' for index in range(len(found.classes), count)]
    return found


def read_coco(root: Path, file: Path) -> ImageSet:
    """Boxes and masks of a COCO json; labels follow the order of its categories.

    Raises:
        UserError: the file is missing, no JSON (line and column), not COCO, or it refers to an id that it lacks.
    """
    text = _text(file)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f'{file}: not valid JSON: {error.msg} at line {error.lineno}, column '
                        f'{error.colno}') from error
    try:
        images, categories = content['images'], content['categories']
        label_of = {each['id']: index for index, each in enumerate(categories)}
        place_of = {each['id']: index for index, each in enumerate(images)}
        objects: list[list[dict]] = [[] for _ in images]
        for annotation in content.get('annotations', []):
            label = label_of[annotation['category_id']]
            objects[place_of[annotation['image_id']]].append({**annotation, 'label': label})
        files = [each['file_name'] if 'file_name' in each else '/'.join(each['coco_url'].split('/')[-2:])
                 for each in images]
        classes = [str(each['name']) for each in categories]
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f'{file}: not a COCO file: {type(error).__name__} {error}; expected images, annotations and '
                        'categories that refer to each other by id') from error
    if not files:
        raise UserError(f'{file} lists no pictures')
    sizes = [(each['width'], each['height']) if 'width' in each and 'height' in each else None for each in images]
    _check_first_file(root, files[0], file)
    return ImageSet(file.stem, root, classes, files, None, objects, sizes)


def _check_first_file(root: Path, name: str, file: Path) -> None:
    """The usual mistake: names in the file are relative to another folder."""
    if (root / name).is_file():
        return
    beside = [child.name for child in _folders(root) if (child / name).is_file()]
    hint = f'; it is in {root / beside[0]}' if beside else suggest(name, [child.name for child in root.iterdir()])
    raise UserError(f'{root / name} does not exist; give the folder that file_name in {file} is relative to{hint}')


def _text(file: Path) -> str:
    if not file.is_file():
        raise UserError(f'{file} does not exist; give an annotation file: COCO .json, or "path label" lines in a .txt')
    return file.read_text(encoding='utf-8')


def _folders(root: Path) -> list[Path]:
    return sorted(child for child in root.iterdir() if child.is_dir() and not child.name.startswith('.'))
