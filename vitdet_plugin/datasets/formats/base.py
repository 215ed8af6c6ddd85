"""What every reader of an annotation format returns: images with their objects, independent of the format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vitdet_plugin.compat.coco_masks import mask_area, mask_bounds
from vitdet_plugin.datasets.conversion import Problem, read_image_size
from vitdet_plugin.datasets.formats.tree import FileTree


@dataclass
class SourceObject:
    """An object of an image.

    Attributes:
        name: Class name.
        box: Corners (x1, y1, x2, y2) in pixels of the image as it is read for training, within the image.
        mask: List of polygons ``[x1, y1, x2, y2, ...]`` in pixels, or an RLE of COCO; None for an object with only a
            box.
        is_crowd: Whether it is a region of many objects, ``iscrowd`` of COCO.
    """

    name: str
    box: tuple[float, float, float, float]
    mask: list[list[float]] | dict | None = None
    is_crowd: bool = False


@dataclass
class SourceImage:
    """An image file that can be read.

    Attributes:
        path: Path of the file.
        width: In pixels as it is read for training, that is with the EXIF orientation applied.
        height: Likewise.
        split: ``train``, ``val`` or ``test`` if the source states it, otherwise None.
        label: Class name of the whole image; None in data sets for detection.
        objects: In the order of the source; empty for a background image.
    """

    path: Path
    width: int
    height: int
    split: str | None = None
    label: str | None = None
    objects: list[SourceObject] = field(default_factory=list)


@dataclass
class SourceSet:
    """A data set as a reader found it.

    Attributes:
        format: Name of the format.
        classes: Names in the order of the labels: that of the source if it states one, otherwise sorted.
        images: Every image that the source annotates or lists as a background image.
        problems: Every object, row or file that could not be converted, with its reason.
        notes: Other remarks, each one line, with counts.
        clipped: Number of boxes and polygons that were cut at the border of the image.
    """

    format: str
    classes: list[str] = field(default_factory=list)
    images: list[SourceImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    clipped: int = 0

    @property
    def is_classification(self) -> bool:
        """Whether images have one class each in place of objects."""
        return any(image.label is not None for image in self.images)

    def add_image(self, path: Path, split: str | None = None, label: str | None = None,
                  where: Path | None = None) -> SourceImage | None:
        """Add an image, or a problem if its file is missing or cannot be read.

        Args:
            path: Image file.
            split: See :class:`SourceImage`.
            label: See :class:`SourceImage`.
            where: Annotation file that names the image, for the problem; by default the image itself.
        """
        size = read_image_size(path) if path.is_file() else f'the image {path} does not exist'
        if isinstance(size, str):
            self.problems.append(Problem(where or path, None, size if str(path) in size or where is None else
                                         f'{path}: {size}'))
            return None
        image = SourceImage(path, size[0], size[1], split, label)
        self.images.append(image)
        return image

    def add_object(self, image: SourceImage, name: str, where: Path, line: int | None = None, *,
                   box: Sequence[float] | None = None, mask: list[list[float]] | dict | None = None,
                   is_crowd: bool = False) -> SourceObject | None:
        """Add an object, cut at the border of the image, or a problem if nothing of it is left.

        Args:
            image: Image that this set contains.
            name: Class name; must not be empty.
            where: Annotation file, for the problem.
            line: Line or number of the object in it, for the problem.
            box: Corners (x1, y1, x2, y2) in pixels; by default the bounds of the mask.
            mask: Polygons in pixels, or an RLE of the size of the image.
            is_crowd: See :class:`SourceObject`.
        """
        fault = None
        if not isinstance(name, str) or not name.strip():
            fault = 'an object without a class name'
        elif isinstance(mask, dict) and list(mask.get('size', [])) != [image.height, image.width]:
            fault = f'{name}: a mask of size {mask.get("size")} in an image of {image.height} x {image.width}'
        else:
            was = mask
            if isinstance(mask, list):
                mask = [_clip(polygon, image) for polygon in mask if len(polygon) >= 6 and len(polygon) % 2 == 0
                        and all(map(math.isfinite, polygon))]
                mask = [polygon for polygon in mask if mask_area([polygon])]
            if was is not None and not mask or isinstance(mask, dict) and not mask_area(mask):
                fault, mask = f'{name}: the mask encloses nothing within the image', None
            elif box is None and mask is not None and (bounds := mask_bounds(mask)):
                box = (bounds[0], bounds[1], bounds[0] + bounds[2], bounds[1] + bounds[3])
        if fault is None:
            corners = list(box) if box is not None else []
            if len(corners) != 4 or not all(map(math.isfinite, corners)):
                fault = f'{name}: a box needs four finite numbers, found {corners}'
            else:
                clipped = _clip(corners, image)
                self.clipped += _distance(clipped, corners) > 1 or isinstance(was, list) and isinstance(mask, list) \
                    and any(_distance(a, b) > 1 for a, b in zip(mask, was) if len(a) == len(b))
                if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
                    numbers = ', '.join(f'{value:g}' for value in corners)
                    fault = (f'{name}: box ({numbers}) has no area within the image of {image.width} x {image.height}')
        if fault is not None:
            self.problems.append(Problem(where, line, fault))
            return None
        found = SourceObject(name.strip(), (clipped[0], clipped[1], clipped[2], clipped[3]), mask, is_crowd)
        image.objects.append(found)
        return found

    def count_objects(self) -> Counter[str]:
        """Return the number of objects (of images, in a set for classification) of each class that occurs."""
        return Counter(name for image in self.images
                       for name in ([image.label] if image.label is not None else
                                    [each.name for each in image.objects]))


class Format(NamedTuple):
    """An annotation format.

    Attributes:
        name: Short name for ``--format``.
        looks_for: What a data set of this format contains, as the end of a sentence, for the list of known formats.
        recognize: Takes the files of a folder and returns the evidence, one phrase with counts (``'data.yaml with 3
            names, 120 label files'``), or None if they are not of this format. Reads as little as possible and never
            raises for foreign content.
        read: Takes the files and returns the data set.
        is_automatic: Whether it is recognized; otherwise it is used only if the user names it, for files that another
            format would read in another way.
    """

    name: str
    looks_for: str
    recognize: Callable[[FileTree], str | None]
    read: Callable[[FileTree], SourceSet]
    is_automatic: bool = True


def _clip(values: Sequence[float], image: SourceImage) -> list[float]:
    """Move coordinates x, y, x, y, ... into the image."""
    sides = image.width, image.height
    return [min(max(float(value), 0.0), float(sides[i % 2])) for i, value in enumerate(values)]


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b))
