"""Conversion of data sets of all known formats to COCO files."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from vitdet_plugin.coco.masks import mask_area
from vitdet_plugin.datasets.coco import ABSENT, PARTLY
from vitdet_plugin.datasets.conversion import Problem, check_class_names, list_some
from vitdet_plugin.datasets.formats import recognize
from vitdet_plugin.datasets.formats.base import SourceImage, SourceObject, SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.formats.voc import VocReader
from vitdet_plugin.datasets.formats.yolo import LabelFiles, read_labels, whole_tree
from vitdet_plugin.datasets.formats.yolo_description import Description, find_description
from vitdet_plugin.datasets.image_files import IMAGE_SUFFIXES, is_image_file
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.text_files import read_text

_DATA_SUFFIXES = ('.txt', '.xml', '.json', '.yaml', '.yml', '.csv', '.cache')


@dataclass
class ReadSet:
    """A data set to convert.

    Attributes:
        found: Its images, classes, problems and notes.
        folder: Folder that names of images are relative to.
        splits: Images of each split that the data set states; ``other`` for those in none, ``all`` if there are no
            splits.
        by_name: Images by the name of their annotation file without suffix, for lists of names.
    """

    found: SourceSet
    folder: Path
    splits: dict[str, list[SourceImage]] = field(default_factory=dict)
    by_name: dict[str, SourceImage] = field(default_factory=dict)


def read_voc_folders(annotations: Path, images: Path, classes: Sequence[str] | None = None,
                     is_one_based: bool = False) -> ReadSet:
    """Read the XML files of Pascal VOC below one folder, and their images below another.

    Args:
        annotations: Folder of the XML files.
        images: Folder of the images.
        classes: Names in the order of the labels; by default all names that occur, sorted.
        is_one_based: See :class:`VocReader`; many labeling tools copy the name of the challenges into their files, so
            that it must be stated here.

    Raises:
        UserError: There are no XML files.
    """
    tree = FileTree(annotations, images) if annotations.is_dir() else None
    if tree is None or not tree.with_suffix('.xml'):
        raise UserError(f'{annotations} holds no .xml files; give the folder of the annotations')
    reader = VocReader(tree, classes, is_one_based, guess_encoding=False)
    reader.read_all()
    reader.found.notes += _note_other_files(tree)
    by_name = {file.with_suffix('').as_posix(): image for file, image in reader.image_of.items()}
    return ReadSet(reader.found, images, {'all': reader.found.images}, by_name)


def read_yolo_folders(images: Path, labels: Path, classes: Sequence[str]) -> ReadSet:
    """Read the images below one folder, and the text files of YOLO with the same names below another.

    Args:
        images: Folder of the images.
        labels: Folder of the text files.
        classes: Names in the order of the labels.

    Raises:
        UserError: There are no images, no folder of labels, or no label file for any of the images.
    """
    if not labels.is_dir():
        raise UserError(f'{labels} is not a folder; it should hold a .txt for each image')
    tree = FileTree(labels, images)
    if not tree.images:
        raise UserError(f'{images} holds no images ({", ".join(IMAGE_SUFFIXES[:6])} …)')
    description = Description('--classes', list(classes), files=find_description(tree).files)
    if not LabelFiles(tree, description).file_of:
        raise UserError(f'none of the {len(tree.images)} images in {images} has a label file of its name in {labels}; '
                        'give the folder of the labels (--labels), with the subfolders of the images')
    found = read_labels(tree, description)
    found.notes += _note_other_files(tree)
    return ReadSet(found, images, {'all': found.images})


def read_any(path: Path, name: str | None = None) -> ReadSet:
    """Read a data set of any known format, with the class names and splits that it states.

    Args:
        path: Folder of the data set, or its annotation file.
        name: Name of the format; by default it is recognized.

    Raises:
        UserError: The format is not recognized, or the data set has no names of classes or no objects.
    """
    tree = FileTree(path)
    form, _ = recognize(tree, name)
    root = tree.image_root
    if form.name == 'yolo':
        whole, chosen = whole_tree(tree)
        root = whole.image_root
        if find_description(whole, chosen).classes is None:
            raise UserError(f'{path} has no list of class names (data.yaml, classes.txt); give --classes of "vitdet '
                            'convert yolo-to-coco"')
    found = form.read(tree)
    check_class_names(found.classes, path)
    if found.is_classification:
        raise UserError(f'{path} has classes of images ({form.name}), no objects, which COCO files cannot represent; '
                        '"vitdet init" uses it as it is')
    has_splits = any(image.split for image in found.images)
    splits = defaultdict(list)
    for image in found.images:
        splits[image.split or ('other' if has_splits else 'all')].append(image)
    found.notes.append(f'file names are relative to {root}')
    return ReadSet(found, root, dict(splits))


def select_listed(read: ReadSet, imageset: Path) -> list[SourceImage]:
    """Return the images that a list names, one name per line; unknown names become problems.

    A name is the path of the XML file or image without suffix; the suffix of an image is accepted.

    Raises:
        UserError: The list does not exist or is not a text file.
    """
    if not imageset.is_file():
        raise UserError(f'{imageset} does not exist; a split is a file of image names in the folder of imagesets')
    by_stem = {PurePosixPath(relative_name(image, read.folder)).with_suffix('').as_posix(): image
               for image in read.found.images} | read.by_name
    short = Counter(PurePosixPath(key).name for key in by_stem)
    by_stem |= {PurePosixPath(key).name: image for key, image in by_stem.items()
                if short[PurePosixPath(key).name] == 1}
    chosen: list[SourceImage] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(read_text(imageset).splitlines(), 1):
        name = line.strip().replace('\\', '/')
        if not name:
            continue
        key = name.removesuffix(Path(name).suffix) if is_image_file(Path(name)) and name not in by_stem else name
        if key in seen:
            read.found.problems.append(Problem(imageset, number, f'{name} is already in line {seen[key]}'))
        elif key not in by_stem:
            read.found.problems.append(Problem(imageset, number, f'there is no annotated image {name!r}'))
        else:
            chosen.append(by_stem[key])
        seen.setdefault(key, number)
    return chosen


def coco_content(images: Sequence[SourceImage], classes: Sequence[str], name_of: Callable[[SourceImage], str],
                 needs_masks: bool = False, frequencies: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the content of a COCO file.

    Args:
        images: Images with their objects.
        classes: Names in the order of the labels.
        name_of: Returns the ``file_name`` of an image.
        needs_masks: Write a rectangle as the mask of an object that has only a box.
        frequencies: ``frequency`` of classes as in LVIS.
    """
    labels = {name: index for index, name in enumerate(classes, 1)}
    entries: list[dict] = []
    annotations: list[dict] = []
    for number, image in enumerate(images, 1):
        entry: dict[str, Any] = dict(id=number, file_name=name_of(image), width=image.width, height=image.height)
        if image.absent is not None:
            entry[ABSENT] = [labels[name] for name in image.absent if name in labels]
            entry[PARTLY] = [labels[name] for name in image.partly if name in labels]
        entries.append(entry)
        annotations += [_annotation(each, len(annotations) + index, number, labels[each.name], needs_masks)
                        for index, each in enumerate(image.objects, 1)]
    return dict(images=entries, annotations=annotations,
                categories=[dict(id=index, name=name, **({'frequency': frequencies[name]} if frequencies and
                                                         name in frequencies else {}))
                            for name, index in labels.items()])


def relative_name(image: SourceImage, folder: Path) -> str:
    """Return the path of an image relative to a folder that contains it, with ``/``."""
    return image.path.relative_to(folder).as_posix()


def _annotation(found: SourceObject, number: int, image: int, label: int, needs_mask: bool) -> dict:
    x1, y1, x2, y2 = found.box
    box = [round(value, 4) for value in (x1, y1, x2 - x1, y2 - y1)]
    entry = dict(id=number, image_id=image, category_id=label, bbox=box, iscrowd=int(found.is_crowd))
    mask = found.mask
    if mask is None and needs_mask and not found.is_crowd:
        mask = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    if isinstance(mask, dict) and isinstance(mask.get('counts'), bytes):
        mask = {**mask, 'counts': mask['counts'].decode('ascii')}
    elif isinstance(mask, list):
        mask = [[round(value, 4) for value in polygon] for polygon in mask]
    if mask is not None:
        entry['segmentation'] = mask
    entry['area'] = round((mask_area(mask) if mask is not None else None) or box[2] * box[3], 4)
    if found.is_difficult:
        entry['difficult'] = 1
    return entry


def _note_other_files(tree: FileTree) -> list[str]:
    """Return remarks about files in the folder of the images that are not used."""
    folder = tree.image_root
    notes = [f'{tree.hidden} hidden image files in {folder} are ignored'] if tree.hidden else []
    others = [str(file) for file in tree.others_of_images if file.suffix.lower() not in _DATA_SUFFIXES]
    if others:
        notes.append(f'{len(others)} files in {folder} are not images by their suffix: {list_some(others)}')
    return notes
