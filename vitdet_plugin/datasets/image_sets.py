"""Sets of images in common layouts: a folder of classes, a list file or a COCO json, with or without splits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from vitdet_plugin.coco.content import prepare_coco
from vitdet_plugin.config.dataset_config import SPLITS
from vitdet_plugin.datasets.coco import (
    describe_annotation,
    find_bad_reference,
    image_file_name,
    image_size,
    leaves_folder,
    read_coco,
    require_class_names,
    require_index,
)
from vitdet_plugin.datasets.formats.tree import split_of
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, is_image_file, list_class_files, list_folders
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import read_class_names
from vitdet_plugin.utils.text import suggest
from vitdet_plugin.utils.text_files import read_text


@dataclass
class ImageSet:
    """One split of a data set.

    Attributes:
        name: Name of the split, for tables: that of its folder or file.
        root: Folder that ``files`` are relative to.
        classes: Names of the labels.
        files: Images, relative to ``root``, with ``/``.
        labels: One index into ``classes`` for each image; None for a detection set.
        objects: Annotations of each image as in the COCO file, with the index into ``classes`` as ``label``; None for
            a classification set.
        sizes: (width, height) of each image in pixels as the COCO file states it, None where it does not; None for a
            classification set.
        other_files: Files under ``root`` that are not images by their suffix.
        outside: Images in ``root`` itself, which belong to no class and are not used.
    """

    name: str
    root: Path
    classes: list[str]
    files: list[str]
    labels: list[int] | None = None
    objects: list[list[dict]] | None = None
    sizes: list[tuple[float, float] | None] | None = None
    other_files: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.files)

    def leave_out(self, files: Collection[str]) -> None:
        """Remove images of a classification set."""
        kept = [(file, label) for file, label in zip(self.files, self.labels or ()) if file not in files]
        self.files, self.labels = [file for file, _ in kept], [label for _, label in kept]

    def path(self, index: int) -> Path:
        """Return the path of an image."""
        return self.root / self.files[index]


def open_image_sets(folder: str | Path, ann_files: Sequence[str | Path] = ()) -> list[ImageSet]:
    """Find the splits that a folder holds.

    Args:
        folder: A folder of classes; or a folder with ``train`` and perhaps ``val`` and ``test``, each a folder of
            classes; or, with ``ann_files``, the folder that the file names of the images are relative to.
        ann_files: COCO json files, or list files of mmpretrain (``path label`` on each line).

    Returns:
        At least one set, none of them empty.

    Raises:
        UserError: The folder or a file is missing, or has no images in any of these layouts.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder} is not a folder; give the folder of the images')
    if ann_files:
        paths = [Path(file) for file in ann_files]
        return [read_coco_set(folder, file) if file.suffix.lower() == '.json' else read_list_set(folder, file)
                for file in paths]
    folder = class_root(folder)
    splits = split_folders(folder)
    classes = sorted({child.name for split in splits for child in list_folders(split)}) or None
    return [read_class_folders(split, classes) for split in splits] or [
        read_class_folders(folder, advice='for COCO files give --ann FILE.json')]


def split_folders(folder: Path) -> list[Path]:
    """Return the folders ``train``, ``val`` and so on in a folder that hold folders of classes, in this order."""
    splits = [(SPLITS.index(split), child) for child in list_folders(folder)
              if (split := _split_name(child)) and list_folders(child)]
    return [child for _, child in sorted(splits)]


def class_root(folder: Path) -> Path:
    """Return the folder that holds the classes or splits: those that hold nothing but one folder are entered."""
    while True:
        inside = list_folders(folder)
        if len(inside) != 1 or _split_name(inside[0]) or not list_folders(inside[0]) or any(
                is_image_file(path) for each in (folder, inside[0]) for path in each.iterdir()):
            return folder
        folder = inside[0]


def _split_name(folder: Path) -> str | None:
    """Return ``train``, ``val`` or ``test`` if the name of a folder states a split."""
    return split_of(PurePosixPath(folder.name, '_'))


def training_set(folder: str | Path, ann_files: Sequence[str | Path] = ()) -> ImageSet:
    """Return the training split, or the only set if there are no splits.

    Raises:
        UserError: There are several sets, and not exactly one of them is called train.
    """
    sets = open_image_sets(folder, ann_files)
    if len(sets) == 1:
        return sets[0]
    training = [each for each in sets if split_of(PurePosixPath(each.name, '_')) == 'train'
                or ann_files and 'train' in each.name.lower()]
    if len(training) != 1:
        raise UserError(f'{folder} holds {", ".join(each.name for each in sets)}; give only the training split')
    return training[0]


def read_class_folders(root: Path, classes: Sequence[str] | None = None, advice: str = '') -> ImageSet:
    """Read the layout ``root/<class>/**/<image>``.

    Args:
        root: Folder of the classes.
        classes: Names in the order of the labels; by default the folders in sorted order, as mmpretrain numbers them.
        advice: End of the message if there are no images.

    Raises:
        UserError: There are no folders, or no images in any of them.
    """
    folders = list_folders(root)
    classes = list(classes or [folder.name for folder in folders])
    found = ImageSet(root.name, root, classes, [], [])
    found.outside = [path.name for path in sorted(root.iterdir()) if is_image_file(path) and path.is_file()
                     and not path.name.startswith('.')]
    for folder in folders:
        images, others = list_class_files(folder)
        found.files += [path.relative_to(root).as_posix() for path in images]
        found.labels += [classes.index(folder.name)] * len(images)
        found.other_files += [path.relative_to(root).as_posix() for path in others]
    if not found.files:
        contents = f'{len(folders)} folders without images' if folders else 'no folders'
        if found.outside:
            contents += f' and {len(found.outside)} images directly in it'
        raise UserError(f'{root} has {contents}; expected <class name>/<image> in it '
                        f'({", ".join(IMAGE_SUFFIXES[:6])} …){f"; {advice}" if advice else ""}')
    return found


def read_list_set(root: Path, file: Path) -> ImageSet:
    """Read a list file of mmpretrain, with the class names from ``classes.txt`` next to it if that exists.

    Raises:
        UserError: The file is missing or empty, or a line has no label.
    """
    names, labels = map(list, zip(*read_list_file(file)))
    class_file = file.with_name('classes.txt')
    classes = read_class_names(class_file) if class_file.is_file() else []
    classes += [f'class {index}' for index in range(len(classes), max(labels) + 1)]
    return ImageSet(file.stem, root, classes, names, labels)


def read_list_file(file: Path) -> list[tuple[str, int]]:
    """Read lines such as ``relative/path with blanks.png 3``; mmpretrain stops at blank lines, so they are errors.

    Raises:
        UserError: The file is missing or empty, or a line has no label.
    """
    if not file.is_file():
        raise UserError(f'{file} does not exist; give an annotation file: COCO .json, or "path label" lines in a .txt')
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        name, blank, label = line.strip().rpartition(' ')
        if not blank or not label.isdecimal():
            raise UserError(f'{file}, line {number}: expected "path label" with an integer, found {line.strip()!r}')
        rows.append((name, int(label)))
    if not rows:
        raise UserError(f'{file} is empty; expected "path label" on each line')
    return rows


def read_coco_set(root: Path, file: Path) -> ImageSet:
    """Read the images and annotations of a COCO file; labels follow the order of its categories.

    Raises:
        UserError: The file is missing, not JSON (line and column) or not COCO; an entry refers to an id that the file
            does not have; a file name is missing or points outside ``root``; the first image is not in ``root``.
    """
    content = prepare_coco(read_coco(file, needs_annotations=False)).content
    images = require_index(content['images'], 'image', file)
    categories = require_index(content['categories'], 'category', file)
    label_of = {key: label for label, key in enumerate(categories)}
    objects: dict[int | str, list[dict]] = {key: [] for key in images}
    for number, annotation in enumerate(content['annotations']):
        if wrong := find_bad_reference(annotation, images, categories):
            raise UserError(f"{file}: {describe_annotation(annotation, number)}: {wrong}; 'vitdet check' lists every "
                            'problem of the file')
        objects[annotation['image_id']].append({**annotation, 'label': label_of[annotation['category_id']]})
    files = []
    for key, image in images.items():
        name = image_file_name(image)
        if name is None:
            raise UserError(f'{file}: image {key} has no file_name; add the path below the image folder')
        if leaves_folder(name):
            raise UserError(f'{file}: image {key}: file_name {name!r} points outside the image folder; use paths '
                            'relative to it')
        files.append(name)
    _check_first_file(root, files[0], file)
    return ImageSet(file.stem, root, require_class_names(content['categories'], file), files, None,
                    list(objects.values()), [image_size(image) for image in images.values()])


def _check_first_file(root: Path, name: str, file: Path) -> None:
    """Detect the most common mistake: the names in the file are relative to another folder."""
    if (root / name).is_file():
        return
    parents = [child.name for child in list_folders(root) if (child / name).is_file()]
    hint = f'; it is in {root / parents[0]}' if parents else suggest(name, [child.name for child in root.iterdir()])
    raise UserError(f'{root / name} does not exist; give the folder that file_name in {file} is relative to{hint}')
