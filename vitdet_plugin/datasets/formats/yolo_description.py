"""The description of a YOLO data set: class names and splits, in a yaml, in files of darknet, or in lists of names."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vitdet_plugin.datasets.conversion import list_some
from vitdet_plugin.datasets.formats.tree import SPLIT_OF, FileTree
from vitdet_plugin.datasets.image_files import is_image_file

_NAME_FILES = ('classes.txt', 'obj.names', '_darknet.labels', 'class_names.txt', 'names.txt', 'labels.txt')


@dataclass
class Description:
    """What the files next to the labels state.

    Attributes:
        source: What it was read from, for the evidence.
        classes: Names in the order of the labels, or None.
        base: Folder that entries are relative to, as written in ``path``.
        folder: Folder of the file.
        entries: Folders and list files of each split, as written.
        keypoint_values: Number of values of keypoints in each row.
        notes: Remarks.
        files: Text files that are not labels.
    """

    source: str = 'no list of class names'
    classes: list[str] | None = None
    base: str = ''
    folder: PurePosixPath = PurePosixPath('.')
    entries: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    keypoint_values: int = 0
    notes: list[str] = field(default_factory=list)
    files: set[PurePosixPath] = field(default_factory=set)


def find_description(tree: FileTree, chosen: PurePosixPath | None = None) -> Description:
    """Find the description of the data set below a folder.

    Args:
        tree: The files.
        chosen: The yaml if the user names it; absolute if it is not below the folder.
    """
    found = Description()
    yamls = sorted(tree.with_suffix('.yaml', '.yml'), key=lambda file: (len(file.parts), file))
    candidates = [chosen] if chosen else yamls
    described = {file: content for file in candidates if (content := _read_yaml(tree, file)) is not None}
    if described:
        file, content = next(iter(described.items()))
        _use_yaml(tree, found, file, content)
        found.notes += [f'{other} is ignored: {file} is used' for other, each in described.items()
                        if other != file and each != content]
    for file in tree.with_suffix('.data'):
        _use_darknet(tree, found, file)
    if found.classes is None:
        files = [file for name in _NAME_FILES for file in tree.others if file.name.lower() == name]
        files += [file for file in tree.with_suffix('.names') if file not in files]
        for file in files:
            if names := _read_names(tree, file):
                found.classes = found.classes or names
                found.source = f'{files[0]} with {len(found.classes)} names'
                if names != found.classes:
                    found.notes.append(f'{file} is ignored: {files[0]} is used')
    found.files |= {file for file in tree.others if file.name.lower() in _NAME_FILES}
    _use_lists(tree, found)
    return found


def split_images(tree: FileTree, found: Description) -> dict[PurePosixPath, str | None]:
    """Return the split of each image that an entry of the description contains.

    An image in several splits, as in sets for a first try, has none (None), so that it can be divided.
    """
    splits: dict[PurePosixPath, set[str]] = defaultdict(set)
    for split, entries in found.entries.items():
        for entry in entries:
            images = find_images(tree, found, entry)
            if images is None:
                found.notes.append(f'{split}: {entry} of {found.source.split(" with ")[0]} does not exist')
            for image in images or ():
                splits[image].add(split)
    if several := [str(image) for image, names in splits.items() if len(names) > 1]:
        found.notes.append(f'{len(several)} images are listed in several splits and count as not divided: '
                           f'{list_some(several)}')
    return {image: next(iter(names)) if len(names) == 1 else None for image, names in splits.items()}


def _read_yaml(tree: FileTree, file: PurePosixPath) -> dict | None:
    """Return the content of the yaml of a data set, with every scalar as text, or None for another file."""
    import yaml
    text = tree.read_text(file)
    try:
        content = yaml.load(text or '', Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not (content.get('names') or content.get('nc')):
        return None
    return content if any(key in content for key in ('names', 'train', 'val', 'path')) else None


def _use_yaml(tree: FileTree, found: Description, file: PurePosixPath, content: dict) -> None:
    found.folder = PurePosixPath('.') if file.is_absolute() else file.parent
    names, count = content.get('names'), content.get('nc')
    if isinstance(names, str):  # a file of names
        path = PurePosixPath(names.replace('\\', '/'))
        file_of_names = next((each for each in tree.others if each.name == path.name), None)
        names = _read_names(tree, file_of_names) if file_of_names else None
    if isinstance(names, dict) and all(str(key).isdigit() for key in names) and names:
        last = max(map(int, names))
        names = [names.get(str(i), f'class {i}') for i in range(last + 1)] if last < 100_000 else None
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        names = None
    if names is None and str(count).isdigit() and 0 < int(count) < 100_000:
        names = [f'class {i}' for i in range(int(count))]
        found.notes.append(f'{file.name} has no list of names; classes are numbered')
    elif names is not None and count is not None and count != str(len(names)):
        found.notes.append(f'{file.name}: nc is {count}, but names has {len(names)}, which are used')
    found.classes = [name.strip() for name in names] if names else None
    found.source = f'{file.name if file.is_absolute() else file} with {len(names or [])} names'
    found.base = str(content.get('path') or '')
    for key, value in content.items():
        split = SPLIT_OF.get(str(key).lower())
        if split:
            found.entries[split] += [each for each in (value if isinstance(value, list) else [value])
                                     if isinstance(each, str) and each.strip()]
    shape = content.get('kpt_shape')
    if isinstance(shape, list) and len(shape) == 2 and all(str(each).isdigit() for each in shape):
        found.keypoint_values = int(shape[0]) * int(shape[1])


def _use_darknet(tree: FileTree, found: Description, file: PurePosixPath) -> None:
    """Read ``obj.data`` of darknet: lines ``train = data/train.txt``; the names are found by their suffix."""
    pairs = [line.split('=', 1) for line in (tree.read_text(file) or '').splitlines() if '=' in line]
    for key, value in pairs:
        if (split := SPLIT_OF.get(key.strip().lower())) and value.strip():
            found.entries[split].append(value.strip())


def _use_lists(tree: FileTree, found: Description) -> None:
    """Find text files that list images: ``train.txt``; they state the splits if nothing else does."""
    has_entries = any(found.entries.values())
    for file in tree.with_suffix('.txt'):
        split = SPLIT_OF.get(file.stem.lower())
        if split and _lists_images(tree, file):
            found.files.add(file)
            if not has_entries:
                found.entries[split].append((tree.root.resolve() / file).as_posix())


def _lists_images(tree: FileTree, file: PurePosixPath) -> bool:
    first = next((line.strip() for line in (tree.read_text(file) or '').splitlines() if line.strip()), '')
    return is_image_file(Path(first))


def _read_names(tree: FileTree, file: PurePosixPath) -> list[str]:
    return [line.strip() for line in (tree.read_text(file) or '').splitlines() if line.strip()]


def find_images(tree: FileTree, found: Description, entry: str) -> list[PurePosixPath] | None:
    """Return the images of a folder or list file that an entry names, or None if nothing of that name exists."""
    inside: dict[str, list[PurePosixPath]] = defaultdict(list)
    for image in tree.images:
        for folder in image.parents:
            inside[folder.as_posix()].append(image)
    lists = {file.as_posix(): file for file in tree.with_suffix('.txt')}
    for path in _possible_paths(tree, found, entry):
        if path in inside:
            return inside[path]
        if path in lists:
            return _listed(tree, found, lists[path])
    return None


def _possible_paths(tree: FileTree, found: Description, entry: str) -> Iterator[str]:
    """Yield the paths below the root that an entry may mean, the literal ones first.

    Exports state paths relative to a folder that does not exist (``../train/images``), or of another computer.
    """
    entry, base = (text.strip().replace('\\', '/') for text in (entry, found.base))
    while '*' in entry:
        entry = entry.rpartition('/')[0]
    root = tree.root.resolve().as_posix()
    for start in ('', base):
        path = os.path.normpath(os.path.join(root, found.folder, start, entry))
        if path == root or path.startswith(f'{root}/'):
            yield os.path.relpath(path, root)
    parts = [part for part in entry.split('/') if part not in ('', '.', '..')]
    for first in range(len(parts)):
        if first and first == len(parts) - 1 and parts[first - 1].lower() in SPLIT_OF:
            continue  # ``valid/images`` must not become ``images``
        for folder in (found.folder, PurePosixPath('.')):
            yield (folder / '/'.join(parts[first:])).as_posix()


def _listed(tree: FileTree, found: Description, file: PurePosixPath) -> list[PurePosixPath]:
    """Return the images that a list file names."""
    found.files.add(file)
    names = [line.strip() for line in (tree.read_text(file) or '').splitlines() if line.strip()]
    paths = [tree.find_image(name, file) for name in names]
    if missing := [name for name, path in zip(names, paths) if isinstance(path, str)]:
        found.notes.append(f'{file} names {len(missing)} images that do not exist: {list_some(missing)}')
    return [tree.inside(path) for path in paths if isinstance(path, Path)]
