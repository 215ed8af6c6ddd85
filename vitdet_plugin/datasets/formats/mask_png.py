"""Masks as images: one value an object, one value a class, or a file for each object."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from vitdet_plugin.datasets.formats import shapes
from vitdet_plugin.datasets.formats.base import Doubtful, Format, SourceSet
from vitdet_plugin.datasets.formats.collector import AnnotatedImage, Collector
from vitdet_plugin.datasets.formats.mask_files import MaskedImage, MaskFiles, classes_of_folders, find_masks, mask_words
from vitdet_plugin.datasets.formats.mask_names import ValueNames, read_value_names
from vitdet_plugin.datasets.formats.mask_values import (
    IGNORED,
    IGNORED_COLOR,
    MaskKind,
    MaskValues,
    decide_kind,
    has_object_border,
    is_flat,
    read_values,
)
from vitdet_plugin.datasets.formats.tree import FileTree
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.track import track

_LOOKED_AT = 40  # masks that decide what the values mean
_FEW = 6  # masks that are enough to recognize them, unless all are empty
_SPECK = 10  # pixels
_MOST_INVERTED = 0.9  # share of the masks with objects at most of the border
_OF_CLASSES, _OF_OBJECTS = {'class', 'classes', 'semantic'}, {'object', 'objects', 'instance', 'instances'}


class _Region(NamedTuple):
    value: int
    pixels: np.ndarray  # (h, w) bool
    left: int
    top: int


def _recognize(tree: FileTree) -> str | None:
    if tree.chosen is not None or len(tree.images) < 2:
        return None
    found = find_masks(tree)
    if len(found.alone) > len(found.images):
        return None
    masks = [mask for each in found.images for mask in (*each.stack[:1], *(m[0] for m in each.masks.values()))]
    looked_at = masks[::max(len(masks) // _LOOKED_AT, 1)][:_LOOKED_AT]
    counts: list[int] = []
    for mask in looked_at:
        if len(counts) >= _FEW and max(counts) > 1:
            break
        try:
            codes = read_values(tree.path(mask)).codes
        except ValueError:
            continue
        if not is_flat(codes):
            return None
        counts.append(len(np.unique(codes)))
    if max(counts, default=0) < 2:  # no mask has an object and background
        return None
    count = len(found.all_masks()) - len(found.alone)
    return Doubtful(f'{count} masks of {len(found.images)} images, such as {looked_at[0]}')


def _read(tree: FileTree, kind: str | None = None) -> SourceSet:
    return _Reader(tree, find_masks(tree), kind).read()


class _Mask(NamedTuple):
    file: PurePosixPath
    folder: str  # below the folder of masks; the class, in data sets with several
    values: MaskValues


class _Reader:
    """State of one conversion."""

    def __init__(self, tree: FileTree, files: MaskFiles, kind: str | None) -> None:
        self.tree, self.files = tree, files
        self.collector = Collector(tree, 'mask-png')
        self.collector.not_images = {*files.all_masks(), *files.drawings}
        self.specks = 0
        folders = {name for each in files.images for name in each.masks if name}
        self.has_class_folders = len(folders) > 1
        self.names: ValueNames = read_value_names(tree)
        self.class_of = {} if self.has_class_folders else classes_of_folders(files)
        self.value_of: dict[str, int] = {}
        self.kind = self._decide(kind)

    def read(self) -> SourceSet:
        """Convert all masks."""
        for mask in self.files.alone:
            self.collector.problem(self.tree.path(mask), None, 'no image of this mask was found')
        for each in track(self.files.images, len(self.files.images), 'images'):
            self._add(each)
        if self.specks:
            self.collector.found.notes.append(f'{self.specks} objects have fewer than {_SPECK} pixels; they are kept')
        if self.class_of and self.kind.name != 'semantic':
            self.collector.found.notes.append('masks: the class of an object is the folder of its image; "--format '
                                              'class-folders" reads the folders as classes of whole images')
        # values of classes are in the order of the labels
        return self.collector.finish(sorted(self.value_of, key=lambda name: self.value_of[name]))

    def _decide(self, given: str | None) -> MaskKind:
        """Decide what the values of masks mean, and say so in a note."""
        notes = self.collector.found.notes
        if stacks := sum(len(each.stack) for each in self.files.images):
            notes.append(f'masks: {stacks} files are of one object each')
        masks = [mask for each in self.files.images for found in each.masks.values() for mask in found]
        if not masks:
            return MaskKind('binary', '', None)
        words = set().union(*(mask_words(mask.parent) for mask in masks[:1000]))
        if not given and words & _OF_OBJECTS and words & _OF_CLASSES:
            notes.append('masks: those of objects state the objects, those of classes their classes')
            return MaskKind('semantic', '', None)
        loaded = []
        for mask in masks[::max(len(masks) // _LOOKED_AT, 1)][:_LOOKED_AT]:
            try:
                loaded.append(read_values(self.tree.path(mask)))
            except ValueError:  # reported when it is converted
                continue
        kind = decide_kind(loaded, words) if loaded else MaskKind('binary', 'none can be read', None)
        values = {int(value) for mask in loaded for value in np.unique(mask.codes)} - {0, kind.ignored}
        if kind.is_by_values and len(values) > 1 and self.names.covers(values, loaded[0].is_color):
            kind = MaskKind('semantic', f'{self.names.file} names the values', kind.ignored)
        inverted = sum(has_object_border(mask) for mask in loaded)
        if not given and kind.name == 'binary' and inverted > max(1, _MOST_INVERTED * len(loaded)):
            raise UserError(f'{self.tree.root}: most of the border of {inverted} of {len(loaded)} masks looked at is '
                            'not 0, so the masks seem to be inverted (0 at the objects). Invert them; if the objects '
                            'do cover the borders, give --format mask-png-semantic')
        if not given and kind.is_by_values and len(values) == 2 and all(each.codes.all() for each in loaded):
            first, second = (f'color {code >> 16}, {code >> 8 & 255}, {code & 255}' if loaded[0].is_color else code
                             for code in sorted(values))
            raise UserError(f'{self.tree.root}: the masks have two values, {first} and {second}, none of which is 0, '
                            'so the background is not known. Set it to 0; if both are classes of objects, give '
                            '--format mask-png-semantic')
        if given:
            kind = MaskKind(given, 'as stated', kind.ignored)
        meaning = dict(binary='a connected region is an object', instance='a value is an object',
                       semantic='a value is a class and a connected region of it an object')[kind.name]
        others = ' or '.join(f'--format {each.name}' for each in FORMATS[1:] if not each.name.endswith(kind.name))
        ignored = f'; the value {kind.ignored} is ignored' if kind.ignored is not None else ''
        notes.append(f'masks: {meaning} ({kind.reason}){ignored}; to read them in another way: {others}')
        return kind

    def _add(self, each: MaskedImage) -> None:
        """Add an image with the objects of its masks; if one of them cannot be read, the image is left out."""
        masks: list[_Mask] = []
        singles: list[tuple[PurePosixPath, _Region]] = []
        size: tuple[int, int] | None = None
        files = [(folder, file) for folder, found in each.masks.items() for file in found]
        for folder, file in [*files, *(('', file) for file in each.stack)]:
            try:
                values = read_values(self.tree.path(file))
                height, width = values.codes.shape
                size = size or (width, height)
                if (width, height) != size:
                    raise ValueError(f'a mask of {width} x {height} next to one of {size[0]} x {size[1]}')
            except ValueError as error:
                self.collector.problem(self.tree.path(file), None, f'{error}; {each.image} is left out')
                self.collector.not_images.add(each.image)
                return
            if len(masks) < len(files):
                masks.append(_Mask(file, folder, values))
            else:
                singles.append((file, _as_one(values)))
        first = (files[0][1] if files else each.stack[0])
        to = self.collector.add_image([str(each.image)], first, stated=size, objects=len(files) + len(each.stack))
        if to is None:
            return
        by_words = [mask_words(mask.file.parent) for mask in masks]
        classes = [mask for mask, words in zip(masks, by_words) if words & _OF_CLASSES and not words & _OF_OBJECTS]
        objects = [mask for mask, words in zip(masks, by_words) if words & _OF_OBJECTS]
        if len(masks) == 2 and len(classes) == len(objects) == 1:
            self._add_classified(to, objects[0], classes[0])
        elif len(masks) > 1 and not self.has_class_folders:  # a_mask.png, a_mask_1.png
            singles += [(mask.file, _as_one(mask.values)) for mask in masks]
        else:
            for mask in masks:
                self._add_mask(to, mask, each.image)
        for file, region in singles:
            self._add_region(to, file, None, region, 'object')

    def _add_classified(self, to: AnnotatedImage, objects: _Mask, classes: _Mask) -> None:
        """Add the objects of a mask; their classes are the most frequent values in another one."""
        for region in find_regions(objects.values, True, IGNORED_COLOR if objects.values.is_color else IGNORED):
            height, width = region.pixels.shape
            inside = classes.values.codes[region.top:region.top + height, region.left:region.left + width]
            values, counts = np.unique(inside[region.pixels], return_counts=True)
            counts[np.isin(values, (0, IGNORED_COLOR if classes.values.is_color else IGNORED))] = 0
            if not counts.any():
                self.collector.problem(self.tree.path(objects.file), region.value,
                                       f'no class at this object in {classes.file}')
                continue
            value = int(values[counts.argmax()])
            self._add_region(to, objects.file, region.value, region, self._name(value, classes.values.is_color))

    def _add_mask(self, to: AnnotatedImage, mask: _Mask, image: PurePosixPath) -> None:
        """Add the objects of a mask by the meaning of its values."""
        is_instance, is_semantic = self.kind.name == 'instance', self.kind.name == 'semantic'
        values, ignored = mask.values, self.kind.ignored
        if self.kind.name == 'binary':  # whatever the values of a few masks are
            values = MaskValues(((values.codes != 0) & (values.codes != ignored)).astype(np.int32), False)
        for region in find_regions(values, is_instance, ignored):
            name: str | None = mask.folder if self.has_class_folders and mask.folder else 'object'
            if is_semantic and name == 'object':
                name = self._name(region.value, mask.values.is_color)
            elif name == 'object':
                name = self.class_of.get(image, name)
            self._add_region(to, mask.file, region.value, region, name)

    def _name(self, value: int, is_color: bool) -> str | None:
        name = self.names.name_of(value, is_color)
        if name is not None:
            self.value_of.setdefault(name, value)
        return name

    def _add_region(self, to: AnnotatedImage, file: PurePosixPath, number: int | None, region: _Region,
                    name: str | None) -> None:
        path = self.tree.path(file)
        if name is None:
            self.collector.problem(path, None, f'the value {region.value} has no name in {self.names.file}')
            return
        self.specks += int(region.pixels.sum()) < _SPECK
        self.collector.add_object(AnnotatedImage(to.image, path, to.scale), name, number,
                                  [shapes.bitmap(region.pixels, region.left, region.top)])


def find_regions(values: MaskValues, is_instance: bool, ignored: int | None) -> Iterator[_Region]:
    """Yield the regions of each value, in one piece if a value is an object, otherwise each connected one."""
    codes = values.codes if ignored is None else np.where(values.codes == ignored, 0, values.codes)
    occurring, compact = np.unique(codes, return_inverse=True)
    compact = compact.reshape(codes.shape) + (0 if occurring[0] == 0 else 1)
    occurring = occurring[occurring != 0]
    for index, (rows, columns) in enumerate(ndimage.find_objects(compact)):
        value, region = int(occurring[index]), compact[rows, columns] == index + 1
        if is_instance:
            yield _Region(value, region, columns.start, rows.start)
            continue
        count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
        for part, (y, x) in enumerate(ndimage.find_objects(labels, count - 1), 1):
            yield _Region(value, labels[y, x] == part, columns.start + x.start, rows.start + y.start)


def _as_one(values: MaskValues) -> _Region:
    """Return the pixels other than 0 as one object; the whole empty mask if there are none, for the problem."""
    pixels = values.codes != 0
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return _Region(1, pixels, 0, 0)
    top, left = int(rows[0]), int(columns[0])
    return _Region(1, pixels[top:rows[-1] + 1, left:columns[-1] + 1].copy(), left, top)


FORMATS = (
    Format('mask-png', 'masks as images in a folder such as masks, or named a_mask.png, with the images of the same '
           'names; or a folder of masks of one object each for an image', _recognize, _read),
    Format('mask-png-instance', 'the same; each value of a mask is an object', _recognize,
           partial(_read, kind='instance'), is_automatic=False),
    Format('mask-png-semantic', 'the same; each value of a mask is a class, and a connected region an object',
           _recognize, partial(_read, kind='semantic'), is_automatic=False),
)
