"""Classification: a folder for each class, with or without splits, or lists of paths and labels as of ImageNet."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath

from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats.base import Format, LastResort, SourceSet, sort_names
from vitdet_plugin.datasets.formats.mask_files import masks_by_content
from vitdet_plugin.datasets.formats.tree import FileTree, split_of
from vitdet_plugin.datasets.image_files import is_image_file
from vitdet_plugin.utils.track import track

# names of folders of other layouts, which are not classes
_IMAGE_FOLDERS = {'images', 'image', 'imgs', 'img', 'photos', 'jpegimages', 'images_raw', 'rgb'}
_OTHER_FOLDERS = {'labels', 'label', 'masks', 'mask', 'annotations', 'ann', 'segmentationclass', 'segmentationobject',
                  'gt', 'groundtruth', 'ground_truth', 'train', 'val', 'test'}
_MASK_FOLDERS = {'masks', 'mask', 'gt', 'groundtruth', 'ground_truth'}
_ANNOTATIONS = ('.json', '.xml', '.csv', '.tsv', '.txt', '.yaml', '.yml')
_SYNSET = re.compile(r'n\d{8}')
# several labels, or a box with or without a class next to it
_SEVERAL_NUMBERS = re.compile(r'[-+.\d]+(\s+[-+.\d]+)+|(.*\s)?[-+.\d]+(\s+[-+.\d]+){3}(\s.*)?')
_NAME_FILES = ('classes.txt', 'class_names.txt', 'labels.txt', 'synsets.txt', 'synset_words.txt',
               'loc_synset_mapping.txt', 'words.txt')


def recognize_class_folders(tree: FileTree) -> str | None:
    """Return the evidence for lists or class folders, see :class:`Format`. Folders alone are the last resort."""
    if lists := _lists(tree):
        return f'{list_some([str(file) for file in lists])} with lines "path label"'
    if tree.chosen is not None and tree.chosen.is_dir():
        return None  # it holds no images, and the folders next to it are other data
    base, splits, classes = _layout(tree)
    names = {split_of(PurePosixPath(name, '_')) or name.lower() for name in classes}
    if len(classes) < 2 or names & _IMAGE_FOLDERS or names <= _OTHER_FOLDERS:
        return None
    inner = {part.lower() for image in tree.images for part in image.parts[len(base.parts) + 1 + bool(splits):-1]}
    if inner & _IMAGE_FOLDERS and inner & _MASK_FOLDERS:  # folders of images and masks for each place or experiment
        return None
    where = f' in {base}' if base.parts else ''
    return LastResort(f'{len(classes)} folders of images{where} ({list_some(classes)})' +
                      (f' in {", ".join(splits)}' if splits else ''))


def single_class_folder(tree: FileTree) -> str | None:
    """Return the name of the only class folder, if nothing else is there that could be a data set."""
    if tree.chosen is not None or not tree.images or tree.with_suffix(*_ANNOTATIONS):
        return None
    _, _, classes = _layout(tree)
    return classes[0] if len(classes) == 1 and classes[0].lower() not in _IMAGE_FOLDERS | _OTHER_FOLDERS else None


def read_class_folders(tree: FileTree) -> SourceSet:
    """Read lists or class folders, see :class:`Format`."""
    found = SourceSet('class-folders')
    masks = {*masks_by_content(tree)}
    if lists := _lists(tree):
        _read_lists(tree, found, lists)
    else:
        _read_folders(tree, found, masks)
    found.notes += tree.note_encodings()
    found.note_unused(tree, 'have no class and are left out', masks)
    return found


def _layout(tree: FileTree) -> tuple[PurePosixPath, list[str], list[str]]:
    """Return the folder that holds the splits or classes, the folders of splits, and the names of the classes."""
    folders, depth = {image.parts[:-1] for image in tree.images}, 0
    while True:
        inside = {parts for parts in folders if len(parts) > depth}
        names = {parts[depth] for parts in inside}
        if len(names) != 1 or min(map(len, inside)) == depth + 1 or split_of(PurePosixPath(*names, '_')):
            break
        folders, depth = inside, depth + 1  # a folder that holds everything, as in archives
    base = PurePosixPath(*next(iter(folders), ())[:depth])
    below = [parts[depth:] for parts in folders if len(parts) > depth]
    splits = sorted({parts[0] for parts in below if len(parts) > 1 and split_of(PurePosixPath(parts[0], '_'))})
    if splits:
        return base, splits, sort_names({parts[1] for parts in below if len(parts) > 1 and parts[0] in splits})
    return base, [], sort_names({parts[0] for parts in below})


def _read_folders(tree: FileTree, found: SourceSet, masks: set[PurePosixPath]) -> None:
    base, splits, found.classes = _layout(tree)
    start = len(base.parts)
    names, notes = _read_names(tree, [])
    if masks:
        found.notes.append(f'{len(masks)} files are masks of the images next to them, and left out: '
                           f'{list_some(sorted(map(str, masks)))}; "--format mask-png" reads them as objects')
    for image in track(tree.images, len(tree.images), 'images'):
        if image.parts[:start] != base.parts or image in masks:
            continue
        parts = image.parts[start:-1]
        split = split_of(PurePosixPath(parts[0], '_')) if parts and parts[0] in splits else None
        if split is not None:
            parts = parts[1:]
        elif splits:
            continue
        if parts:
            split = split or split_of(PurePosixPath(*parts[1:2], '_'))  # ``cat/train`` in place of ``train/cat``
            found.add_image(tree.path(image), split, names.get(parts[0], parts[0]))
    if renamed := {name: names[name] for name in found.classes if name in names}:
        found.notes += notes + [f'{len(renamed)} folders are named by a list of synsets']
        found.classes = [names.get(name, name) for name in found.classes]
    counts = found.count_objects()
    if empty := [name for name in found.classes if not counts[name]]:
        found.notes.append(f'classes whose images cannot be read: {list_some(empty)}')


def _lists(tree: FileTree) -> list[PurePosixPath]:
    """Return the text files whose lines are the path of an image below the folder and a label."""
    found = []
    for file in tree.with_suffix('.txt', '.lst'):
        if tree.with_stem(file.stem):  # belongs to one image
            continue
        rows = [_parse(line) for line in (tree.read_text(file) or '').splitlines()[:20] if line.strip()]
        if rows and all(row and is_image_file(Path(row[0])) for row in rows) and any(
                isinstance(tree.find_image(row[0], file, split_of(file)), Path) for row in rows if row):
            found.append(file)
    return sorted(found, key=lambda file: (split_of(file) is None, file))


def _parse(line: str) -> tuple[str, str] | None:
    """Return the path and label of a line with a blank, tab or comma between them, or None."""
    match = re.fullmatch(r'\s*(.+?\.\w{2,5})(?:\s*[\t,]\s*|\s+)([^,\t]+?)\s*', line)
    if not match or not is_image_file(Path(match[1])) or _SEVERAL_NUMBERS.fullmatch(match[2]):
        return None
    if is_image_file(Path(match[2])):  # an image and its mask
        return None
    return match[1], match[2]


def _read_lists(tree: FileTree, found: SourceSet, lists: list[PurePosixPath]) -> None:
    rows: list[tuple[PurePosixPath, int, Path, str]] = []
    for file in lists:
        where = tree.path(file)
        for number, line in enumerate((tree.read_text(file) or '').splitlines(), 1):
            if not line.strip():
                continue
            row = _parse(line)
            path = tree.find_image(row[0], file, split_of(file)) if row else \
                f'expected "path label", found {line.strip()!r}'
            if isinstance(path, str):
                found.problems.append(Problem(where, number, path))
            elif row:
                rows.append((file, number, path, row[1]))
    numbered = all(label.isdecimal() for *_, label in rows)
    names, notes = _read_names(tree, lists)
    found.notes += notes
    if numbered:
        folders: dict[str, set[str]] = defaultdict(set)
        for _, _, path, label in rows:
            folders[label].add(path.parent.name)
        # a flat folder of a split, such as ImageNet's val, is not that of a class
        folders = {label: {name for name in each if not split_of(PurePosixPath(name, '_'))} or each
                   for label, each in folders.items()}
        by_folder = {label: next(iter(each)) for label, each in folders.items() if len(each) == 1}
        if len(set(by_folder.values())) == len(folders) and not names:  # one folder for each label
            names = {label: names.get(folder, folder) for label, folder in by_folder.items()}
        elif any(label not in names for label in folders):
            found.notes.append('no list of class names (classes.txt) names all labels; some are numbered; "vitdet '
                               'init --classes" names them')
    repeated = 0
    for file, number, path, label in track(rows, len(rows), 'images'):
        name = names.get(label, f'class {label}' if numbered else label)
        known = found.image_at(path)
        if known is None:
            inside = tree.inside(path)
            found.add_image(path, split_of(file) or split_of(inside), name, tree.path(file), line=number)
        elif known.label == name:
            repeated += 1
        else:
            found.problems.append(Problem(tree.path(file), number, f'{path} has the label {known.label} in another '
                                                                   f'line, {name} in this one'))
    if repeated:
        found.notes.append(f'{repeated} lines repeat an image and count once')
    used = {label: None for *_, label in rows}
    if numbered:
        labels = sorted({*used, *(label for label in names if label.isdecimal())}, key=int)
        found.classes = [names.get(label, f'class {label}') for label in labels]
    else:
        found.classes = sort_names({names.get(label, label) for label in used})


def _read_names(tree: FileTree, lists: list[PurePosixPath]) -> tuple[dict[str, str], list[str]]:
    """Return class names by number and by synset, and notes.

    A line is a name, ``n01440764 tench, Tinca tinca`` or ``0 tench``; the number of a class is that of the line if the
    line states none.
    """
    files = [file for each in _NAME_FILES for file in tree.others if file.name.lower() == each and file not in lists]
    if not files:
        return {}, []
    lines = [line.strip() for line in (tree.read_text(files[0]) or '').splitlines() if line.strip()]
    synsets = [line.split(maxsplit=1) for line in lines]
    if lines and all(_SYNSET.fullmatch(parts[0]) for parts in synsets):
        short = [parts[1].split(',')[0].strip() if len(parts) > 1 else parts[0] for parts in synsets]
        counts = Counter(short)  # a few names stand for two synsets
        names = [name if counts[name] == 1 else f'{name} ({parts[0]})' for name, parts in zip(short, synsets)]
        return {**{str(i): name for i, name in enumerate(names)},
                **{parts[0]: name for parts, name in zip(synsets, names)}}, [f'class names are those of {files[0]}']
    numbered = [re.fullmatch(r'(\d+)\s*[:,\s]\s*(\S.*)', line) for line in lines]
    if lines and all(numbered) and len({match[1] for match in numbered if match}) == len(lines):
        return {match[1]: match[2] for match in numbered if match}, [f'class names are those of {files[0]}']
    return {str(i): name for i, name in enumerate(lines)}, [f'class names are those of {files[0]}']


FORMAT = Format('class-folders', 'a folder of images for each class, perhaps in train, val and test; or lists with '
                'lines "path label"', recognize_class_folders, read_class_folders)

