"""Which images of a folder are masks, and of which images."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from vitdet_plugin.datasets.formats.mask_values import is_flat, read_values
from vitdet_plugin.datasets.formats.tree import SPLIT_OF, FileTree

_WORDS = {'mask', 'masks', 'seg', 'segs', 'segmentation', 'segmentations', 'segmented', 'instance', 'instances',
          'label', 'labels', 'annotation', 'annotations', 'annot', 'annots', 'gt', 'groundtruth', 'truth', 'trimap',
          'trimaps', 'semantic', 'semantics'}
_OF_IMAGES = {'image', 'images', 'img', 'imgs', 'photo', 'photos', 'rgb', 'input', 'inputs', 'original', 'originals'}
_DRAWN = {'visualization', 'visualizations', 'viz', 'vis', 'overlay', 'overlays', 'preview'}
_IMAGE_AFFIX = re.compile(r'(?i)^(images?|imgs?|rgb|photo|input)[_-]|'
                          r'[_\-. ](images?|imgs?|rgb|sat|photo|orig|original|input|raw)$')
_WORD = re.compile(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])')
_SPLIT_WORD = re.compile(f'({"|".join(SPLIT_OF)})({"|".join(_WORDS)})')
_END = re.compile(r'(?i)[_\-. ](masks?|instances?|instance_?ids?|labels?|label_?ids?|seg|segmentation|gt|'
                  r'ground_?truth|annotation|anno|trimap)([_-]?\d+)?$')
_START = re.compile(r'(?i)^(masks?|seg|labels?|gt|instances?)[_-]')
_MOST_GROUPS = 50  # folders that are compared by content


@dataclass
class MaskedImage:
    """An image with its masks.

    Attributes:
        image: Path relative to the root.
        masks: Masks whose name is that of the image, by the name of their folder below the folder of masks; '' for
            masks directly in it.
        stack: Masks of one object each.
    """

    image: PurePosixPath
    masks: dict[str, list[PurePosixPath]] = field(default_factory=lambda: defaultdict(list))
    stack: list[PurePosixPath] = field(default_factory=list)


@dataclass
class MaskFiles:
    """The images with masks, masks without an image, and drawings of masks, which are neither."""

    images: list[MaskedImage]
    alone: list[PurePosixPath]
    drawings: list[PurePosixPath] = field(default_factory=list)

    def all_masks(self) -> list[PurePosixPath]:
        """Return all masks, sorted by image."""
        return [*(mask for each in self.images for mask in [*(m for found in each.masks.values() for m in found),
                                                            *each.stack]), *self.alone]


def find_masks(tree: FileTree) -> MaskFiles:
    """Find masks by the name of their folder (``masks``, ``PedMasks``), by the end of their name (``a_mask.png``), or,
    without such names, by content: two groups of images with the same names, of which one has flat regions.
    """
    drawn = {part.lower() for part in {part for file in tree.images for part in file.parts[:-1]}
             if (words := mask_words(PurePosixPath(part))) & _DRAWN and words & _WORDS}
    whole, tree = tree, tree.without_folders(*drawn)
    folders = {file.parent for file in tree.images}
    common = os.path.commonpath(folders) if folders else ''
    mask_folder = {folder: _mask_folder(folder, PurePosixPath(common)) for folder in folders}
    stems = {stem for file in tree.images if mask_folder[file.parent] is None for stem in _stems(file)}
    masks = [file for file in tree.images if mask_folder[file.parent] is not None
             or any(base.lower() in stems for base in _bases(file.stem))]
    found = _pair(tree, masks or masks_by_content(tree), mask_folder)
    found.drawings = [*{*whole.images} - {*tree.images}]
    return found


def _pair(tree: FileTree, masks: Sequence[PurePosixPath],
          mask_folder: dict[PurePosixPath, PurePosixPath | None]) -> MaskFiles:
    chosen = {*masks}
    images = [file for file in tree.images if file not in chosen]
    by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
    by_folder: dict[PurePosixPath, list[PurePosixPath]] = defaultdict(list)
    for file in images:
        for stem in _stems(file):
            by_stem[stem].append(file)
        by_folder[file.parent].append(file)
    found: dict[PurePosixPath, MaskedImage] = {}
    alone = []
    for mask in masks:
        bases = [mask.stem, *_bases(mask.stem)]
        image = next((each for base in bases if (each := _closest(by_stem.get(base.lower(), []), mask))), None)
        # a folder of masks next to the folder of a single image, or with the name of the image
        near = [file for name in ('images', 'image', 'img') for file in by_folder.get(mask.parent.parent / name, [])]
        if image is not None and (len(near) != 1 or near[0] == image):
            folder = mask_folder[mask.parent]
            inside = mask.parent.relative_to(folder).parts if folder is not None else ()
            inside = tuple(part for part in inside if part.lower() not in SPLIT_OF and part not in image.parts)
            found.setdefault(image, MaskedImage(image)).masks['/'.join(inside)].append(mask)
            continue
        near = near or by_folder.get(mask.parent.parent, [])
        image = _closest(by_stem.get(mask.parent.name.lower(), []), mask) or (near[0] if len(near) == 1 else None)
        if image is None:
            alone.append(mask)
        else:
            found.setdefault(image, MaskedImage(image)).stack.append(mask)
    return MaskFiles([found[image] for image in sorted(found)], alone)


def mask_words(path: PurePosixPath) -> set[str]:
    """Return the words of the names of folders in lower case."""
    found = {word.lower() for part in path.parts for word in _WORD.findall(part)}
    for word in [*found]:  # trainannot
        if match := _SPLIT_WORD.fullmatch(word):
            found |= {*match.groups()}
    return found


def _mask_folder(folder: PurePosixPath, common: PurePosixPath) -> PurePosixPath | None:
    """Return the innermost folder of a path below ``common`` whose name is that of a folder of masks."""
    for each in (folder, *folder.parents):
        words = mask_words(PurePosixPath(each.name))
        if each == common or not words & _WORDS and words & _OF_IMAGES:
            return None
        if words & _WORDS:
            return each
    return None


def _bases(stem: str) -> list[str]:
    """Return a name without the words that mark a mask; empty if it has none."""
    found = []
    for pattern in (_END, _START):
        if (base := pattern.sub('', stem)) not in (stem, ''):
            found.append(base)
    return found


def _stems(image: PurePosixPath) -> set[str]:
    """Return the name of an image in lower case, also without words that mark an image (``1_sat``, ``img_1``)."""
    return {image.stem.lower(), _IMAGE_AFFIX.sub('', image.stem).lower()} - {''}


def _closest(files: Sequence[PurePosixPath], mask: PurePosixPath) -> PurePosixPath | None:
    """Return the file with the most folders in common with a mask, of the same split; None if several have as many."""
    split = _split_in(mask)
    files = [file for file in files if not split or _split_in(file) in ('', split)]
    if len(files) < 2:
        return files[0] if files else None
    common = [len({*file.parts[:-1]} & {*mask.parts[:-1]}) + (_split_in(file) == split) for file in files]
    return files[common.index(max(common))] if common.count(max(common)) == 1 else None


def _split_in(file: PurePosixPath) -> str:
    """Return the split that the name of a folder contains (``train_masks``); empty without one."""
    words = (word for part in reversed(file.parts[:-1]) for word in sorted(mask_words(PurePosixPath(part))))
    return next((SPLIT_OF[word] for word in words if word in SPLIT_OF), '')


@lru_cache(maxsize=1)  # formats ask for those of the same tree
def masks_by_content(tree: FileTree) -> list[PurePosixPath]:
    """Return the images that are masks of the images of the same names in another folder, or of another suffix."""
    groups: dict[tuple[PurePosixPath, str], dict[str, PurePosixPath]] = defaultdict(dict)
    for file in tree.images:
        groups[file.parent, file.suffix.lower()][file.stem.lower()] = file
    if len(groups) > _MOST_GROUPS:
        return []
    @cache  # a file is compared with those of many folders
    def content(file: PurePosixPath) -> _Content:
        return _read_content(tree.path(file))

    found: list[PurePosixPath] = []
    empty: list[PurePosixPath] = []
    for masks in groups.values():
        for images in groups.values():
            shared = sorted(masks.keys() & images.keys())
            if masks is images or len(shared) < 0.8 * min(len(masks), len(images)):
                continue
            pairs = [(content(masks[stem]), content(images[stem])) for stem in shared[:4]]
            if all(mask.values and image.is_photograph and mask.size == image.size for mask, image in pairs):
                (found if max(mask.values for mask, _ in pairs) > 1 else empty).extend(masks.values())
                break
    return found + empty if found else []


def classes_of_folders(files: MaskFiles) -> dict[PurePosixPath, str]:
    """Return the class of each image by its folder, if masks lie next to their images in folders named as classes.

    Empty otherwise: names of splits, of scenes (``scene1``, ``scene2``) and of folders of images are not classes.
    """
    masks = [(each.image, mask) for each in files.images for found in each.masks.values() for mask in found]
    if not masks or any(mask.parent != image.parent for image, mask in masks):
        return {}
    base = len(PurePosixPath(os.path.commonpath([image.parent for image, _ in masks])).parts)
    found = {image: image.parts[base] for image, _ in masks if len(image.parts) > base + 1}
    names = {*found.values()}
    words = {re.sub(r'[\d _.-]+', '', name).lower() for name in names}
    is_complete = len(found) == len({image for image, _ in masks}) and len(names) > 1
    return found if is_complete and len(words) == len(names) and not words & {'', *SPLIT_OF, *_OF_IMAGES} else {}


class _Content(NamedTuple):
    """What an image file looks like.

    Attributes:
        size: (width, height); None if the file cannot be read.
        values: Number of values of a file of one channel with flat regions, 0 for others.
        is_photograph: Whether it has colors or no flat regions.
    """

    size: tuple[int, int] | None = None
    values: int = 0
    is_photograph: bool = False


def _read_content(path: Path) -> _Content:
    try:
        with Image.open(path) as image:
            is_photograph = image.mode in ('RGB', 'RGBA', 'CMYK') or not is_flat(np.asarray(image.convert('L')))
            if image.mode not in ('1', 'L', 'P', 'I', 'I;16'):
                return _Content(image.size, 0, is_photograph)
            try:
                codes = read_values(path).codes
            except ValueError:  # a JPEG of many values, for example
                return _Content(image.size, 0, is_photograph)
            return _Content(image.size, len(np.unique(codes)) if is_flat(codes) else 0, is_photograph)
    except (OSError, ValueError):
        return _Content()
