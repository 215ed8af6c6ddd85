"""Cityscapes: ``a_gtFine_instanceIds.png`` for ``a_leftImg8bit.png``, in the same folder or in another one."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from vitdet_plugin.datasets.conversion import list_some
from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Format, SourceSet
from vitdet_plugin.datasets.formats.collector import Collector
from vitdet_plugin.datasets.formats.files import weigh
from vitdet_plugin.datasets.formats.mask_names import read_value_names
from vitdet_plugin.datasets.formats.mask_png import find_regions
from vitdet_plugin.datasets.formats.mask_values import read_values
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.utils.track import track

_MASK = re.compile(r'(.+?)(_gt(?:Fine|Coarse)[A-Za-z]*)?_instanceIds', re.IGNORECASE)
_OTHER_MASK = re.compile(r'.+_(labelIds|labelTrainIds|instanceTrainIds|color|gt(Fine|Coarse)\w*)', re.IGNORECASE)
_PER_CLASS = 1000  # a value is 1000 * class + number of the object
# classes with objects; the others are regions such as road
_CLASSES = {24: 'person', 25: 'rider', 26: 'car', 27: 'truck', 28: 'bus', 29: 'caravan', 30: 'trailer', 31: 'train',
            32: 'motorcycle', 33: 'bicycle'}


def _recognize(tree: FileTree) -> str | None:
    masks = _masks(tree)
    if not masks or tree.chosen is not None:
        return None
    return weigh(f'{len(masks)} files *_instanceIds.png of Cityscapes, such as {masks[0]}',
                 [_find_image(tree, mask) for mask in masks[:20]])


def _read(tree: FileTree) -> SourceSet:
    collector = Collector(tree, 'cityscapes')
    masks = _masks(tree)
    collector.not_images = {*masks, *(file for file in tree.images if _OTHER_MASK.fullmatch(file.stem))}
    stated = read_value_names(tree)
    names = stated.names or _CLASSES
    groups = 0
    others: set[str] = set()
    for mask in track(masks, len(masks), 'masks'):
        image = _find_image(tree, mask)
        try:
            values = read_values(tree.path(mask))
        except ValueError as error:
            collector.problem(tree.path(mask), None, str(error))
            continue
        if isinstance(image, str):
            collector.problem(tree.path(mask), None, image)
            continue
        height, width = values.codes.shape
        to = collector.add_image([tree.inside(image).as_posix()], mask, stated=(width, height))
        for region in find_regions(values, True, None) if to is not None else ():
            is_group = region.value < _PER_CLASS  # several objects in one region, or a region without objects
            label = region.value if is_group else region.value // _PER_CLASS
            if label not in names:
                others |= set() if is_group else {str(label)}
                continue
            added = collector.add_object(to, names[label], region.value,
                                         [shapes.bitmap(region.pixels, region.left, region.top)])
            if added is not None and is_group:
                added.is_crowd, groups = True, groups + 1
    if groups:
        collector.found.notes.append(f'{groups} regions are of several objects; they are crowds')
    if others:
        collector.found.notes.append(f'objects of classes without a name are left out: {list_some(sorted(others))}')
    collector.found.notes.append(f'the names of the classes are those of {stated.file or "Cityscapes"}')
    return collector.finish(list(names.values()) if not stated.file else None)


def _masks(tree: FileTree) -> list[PurePosixPath]:
    return [file for file in tree.images if file.suffix.lower() == '.png' and _MASK.fullmatch(file.stem)]


def _find_image(tree: FileTree, mask: PurePosixPath) -> Path | str:
    match = _MASK.fullmatch(mask.stem)
    name = match[1] if match else mask.stem
    for stem in (f'{name}_leftImg8bit', name):
        found = tree.find_image(stem, mask)
        if isinstance(found, Path):
            return found
    return f'no image {name}_leftImg8bit.* or {name}.* was found'


FORMAT = Format('cityscapes', 'masks a_gtFine_instanceIds.png of images a_leftImg8bit.png, or of images a.*',
                _recognize, _read)
