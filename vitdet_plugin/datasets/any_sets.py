"""Image sets of a folder in any format of ``vitdet init``, or of a folder that it has written."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from vitdet_plugin.config.dataset_config import SPLITS
from vitdet_plugin.config.names import OWN_CONFIG
from vitdet_plugin.datasets.formats import ForeignAnnotations, SeveralFormats, recognize
from vitdet_plugin.datasets.formats.base import Doubtful, SourceImage, SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.datasets.image_sets import ImageSet, open_image_sets, read_coco_set, read_list_set
from vitdet_plugin.errors import UserError


def open_any_sets(folder: Path, is_trusted: bool = True) -> tuple[list[ImageSet], str]:
    """Find the splits that a folder holds.

    Args:
        folder: One of ``vitdet init``, a data set in any format that it reads, or a folder of classes.
        is_trusted: Whether it may be one of ``vitdet init``, whose config is executed; not the content of an archive.

    Returns:
        At least one set, none of them empty; and what was read, empty for class folders.

    Raises:
        UserError: The folder is missing, holds annotations that are not read or no images.
    """
    if is_trusted and (folder / OWN_CONFIG).is_file():
        return _own_sets(folder / OWN_CONFIG), f'the splits of {folder / OWN_CONFIG}'
    if not (found := read_specific(folder)):
        return open_image_sets(folder), ''
    source, evidence = found
    if not source.images:
        raise UserError(f'{folder} ({source.format}: {evidence}) has no image that can be used; "vitdet check" lists '
                        'the reasons')
    left_out = f'\n{len(source.problems)} objects or files cannot be converted; "vitdet check" lists them'
    return _as_sets(source, folder), f'{source.format}: {evidence}{left_out if source.problems else ""}'


def read_specific(folder: Path) -> tuple[SourceSet, str] | None:
    """Return the data set of a folder and the evidence for its format; None if its folders are classes at most.

    Raises:
        UserError: The folder holds annotations that are not read, or data sets of several formats that differ.
    """
    if not folder.is_dir():
        return None
    tree = FileTree(folder)
    try:
        form, evidence = recognize(tree)
    except (ForeignAnnotations, SeveralFormats):
        raise
    except UserError:
        return None  # perhaps one class
    if isinstance(evidence, Doubtful) or form.name == 'class-folders':
        return None
    return form.read(tree), evidence


def _as_sets(source: SourceSet, folder: Path) -> list[ImageSet]:
    root = Path(os.path.commonpath([image.path.parent for image in source.images]))
    by_split = defaultdict(list)
    for image in source.images:
        by_split[image.split].append(image)
    return [_as_set(split or folder.resolve().name, root, source, by_split[split])
            for split in (*SPLITS, None) if by_split[split]]  # None: images in no split


def _as_set(name: str, root: Path, source: SourceSet, images: list[SourceImage]) -> ImageSet:
    label_of = {each: label for label, each in enumerate(source.classes)}
    found = ImageSet(name, root, list(source.classes), [image.path.relative_to(root).as_posix() for image in images])
    if source.is_classification:
        found.labels = [label_of[image.label or ''] for image in images]
        return found
    found.objects = [[dict(id=number, label=label_of[each.name], iscrowd=int(each.is_crowd), bbox=_sized(each.box))
                      for number, each in enumerate(image.objects, 1)] for image in images]
    found.sizes = [(image.width, image.height) for image in images]
    return found


def _sized(box: tuple[float, float, float, float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def _own_sets(config: Path) -> list[ImageSet]:
    """Return the splits of a folder of ``vitdet init``; a test split that repeats that of validation counts once."""
    from vitdet_plugin.config.dataset_config import distinct_splits, joined_path, split_datasets
    from vitdet_plugin.config.loading import load_config
    from vitdet_plugin.datasets.checks import class_folders, detection_data
    cfg = load_config(str(config))
    found: list[ImageSet] = []
    for split, *_ in distinct_splits(cfg):
        for _, dataset in split_datasets(cfg, split):
            file = joined_path(dataset, dataset.get('ann_file'))
            if not file:
                continue
            if class_folders.is_folder_dataset(dataset):
                found.append(read_list_set(Path(class_folders.image_folder(dataset)), Path(file)))
            else:
                found.append(read_coco_set(Path(detection_data.image_folder(dataset)), Path(file)))
    if not found:
        raise UserError(f'{config} names no annotation files; give the folder of the data set')
    return found
