"""Collect the images and objects of annotation files: images by name, sizes that differ, images annotated twice."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import numpy as np

from vitdet_plugin.datasets.conversion import Problem, list_some, read_image_size
from vitdet_plugin.datasets.formats.base import SourceImage, SourceObject, SourceSet
from vitdet_plugin.datasets.formats.mask_rle import crop_rle, polygon_rle, unite
from vitdet_plugin.datasets.formats.shapes import Shape
from vitdet_plugin.datasets.formats.tree import FileTree, fold, split_of


@dataclass
class AnnotatedImage:
    """An image with the file that annotates it.

    Attributes:
        image: The image.
        file: Path of the annotation file.
        scale: Factors (x, y) from annotated coordinates to pixels of the image.
    """

    image: SourceImage
    file: Path
    scale: tuple[float, float] = (1.0, 1.0)


class Collector:
    """Fill a :class:`SourceSet` from annotation files.

    Attributes:
        found: The data set.
        not_images: Image files that are annotations, such as masks.
    """

    def __init__(self, tree: FileTree, name: str) -> None:
        self.tree, self.found = tree, SourceSet(name)
        self.not_images: set[PurePosixPath] = set()
        self._file_of: dict[Path, Path] = {}
        self._twice: Counter[tuple[Path, Path]] = Counter()
        self._scaled: list[str] = []
        self._dropped: set[int] = set()
        self._by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
        for file in tree.images:
            self._by_stem[fold(file.stem)].append(file)

    def problem(self, file: Path, number: int | None, text: str) -> None:
        """Add a problem."""
        self.found.problems.append(Problem(file, number, text))

    def refuse_object(self, to: AnnotatedImage, number: int | None, text: str) -> None:
        """Add a problem because of which an object of an image is not part of the set."""
        self.found.refuse_object(to.image, Problem(to.file, number, text))

    def with_stem(self, file: PurePosixPath) -> list[PurePosixPath]:
        """Return the image with the name of an annotation file in its folder, or anywhere if it occurs once."""
        found = self._by_stem.get(fold(file.stem), [])
        return [each for each in found if each.parent == file.parent] or (
            found if len(found) == 1 and not self.tree.is_other_form(found[0]) else [])

    def add_image(self, names: Sequence[str], file: PurePosixPath, number: int | None = None, *,
                  stated: tuple[float, float] | None = None, split: str | None = None, objects: int = 0
                  ) -> AnnotatedImage | None:
        """Add an image that an annotation file names, or a problem.

        Args:
            names: Names to try in turn.
            file: The annotation file, relative to the root.
            number: Line or number of the entry in it, for the problem.
            stated: (width, height) of the image in pixels according to the file.
            split: By default that of the folders of the image, or of the annotation file.
            objects: Number of objects of the image, for the problem.
        """
        paths = [find_image(self.tree, name, file) for name in names if name]
        path = next((each for each in paths if isinstance(each, Path)), None)
        where, lost = self.tree.path(file), f'; its {objects} objects are not converted' if objects else ''
        if path is None:
            self.problem(where, number, f'{paths[0] if paths else "no image is named"}{lost}')
            return None
        if path in self._file_of and self._file_of[path] != where:
            self._twice[where, self._file_of[path]] += 1
            return None
        inside = self.tree.inside(path)
        scale = _scale(path, stated)
        image = self.found.add_image(path, split or split_of(inside) or split_of(file), None, where, line=number,
                                     size=None if scale else (_plain(stated[0]), _plain(stated[1])))
        if image is None:
            problem = self.found.problems[-1]
            self.found.problems[-1] = Problem(where, number, problem.text + lost)
            return None
        self._file_of[path] = where
        if scale not in (None, (1, 1)):
            self._scaled.append(path.name)
        return AnnotatedImage(image, where, scale or (1.0, 1.0))

    def drop(self, image: SourceImage) -> None:
        """Leave out an image that was added, after a problem."""
        self._dropped.add(id(image))

    def use_labels(self, entries: Sequence[tuple[AnnotatedImage, int | None, list[str]]], what: str) -> None:
        """Use labels of whole images as their classes if there are no objects.

        Args:
            entries: Image, line or number of its entry, and labels; an image without exactly one becomes a problem.
            what: What the format calls the labels, in the plural.
        """
        labeled = sum(bool(names) for _, _, names in entries)
        if not labeled:
            return
        if any(image.objects for image in self.found.images):
            self.found.notes.append(f'{labeled} images have {what}, which are not used because images have objects')
            return
        for to, number, names in entries:
            if len(names) == 1 and names[0].strip():
                to.image.label = names[0].strip()
            else:
                self.drop(to.image)
                self.problem(to.file, number, f'{to.image.path.name} has {len(names)} {what}'
                                              f'{" (" + ", ".join(names) + ")" if names else ""}; set one')

    def add_object(self, to: AnnotatedImage, name: str, number: int | None, shapes: Sequence[Shape]
                   ) -> SourceObject | None:
        """Add an object of one or more parts, or a problem."""
        image, (x, y) = to.image, to.scale
        size = image.width, image.height
        box, mask = None, None
        boxes = [(each.box[0] * x, each.box[1] * y, each.box[2] * x, each.box[3] * y) for each in shapes if each.box]
        if len(boxes) == len(shapes):
            lows, highs = [min(each) for each in zip(*boxes)][:2], [max(each) for each in zip(*boxes)][2:]
            box = (*lows, *highs)
        else:
            # a box is a part of a mask as its four corners
            polygons = [[x1, y1, x2, y1, x2, y2, x1, y2] for x1, y1, x2, y2 in boxes]
            polygons += [_scaled(each, x, y) for shape in shapes if not shape.holes for each in shape.polygons]
            rles = [polygon_rle([_scaled(each, x, y) for each in shape.polygons],
                                [_scaled(each, x, y) for each in shape.holes], *size)
                    for shape in shapes if shape.holes]
            rles += [_bitmap_rle(shape, x, y, size) for shape in shapes if shape.bitmap is not None]
            mask = polygons if not rles else unite([*rles, *([polygon_rle(polygons, [], *size)] if polygons else [])])
        return self.found.add_object(image, name, to.file, number, box=box, mask=mask)

    def finish(self, classes: Sequence[str] | None = None) -> SourceSet:
        """Set the classes, add notes and return the data set.

        Args:
            classes: Names in the order of the source; those that occur and are missing in it follow. By default the
                names that occur, sorted.
        """
        found = self.found
        found.images = [image for image in found.images if id(image) not in self._dropped]
        found.sort_classes()
        found.classes = list(dict.fromkeys([*(classes or ()), *found.classes]))
        for (file, first), count in self._twice.items():
            self.problem(file, None, f'{count} images of this file are annotated in {first} too, which is used; keep '
                                     'one of the two files')
        if self._scaled:
            found.notes.append(f'{len(self._scaled)} images have another size than when they were annotated; '
                               f'coordinates are scaled: {list_some(self._scaled)}')
        found.notes += self.tree.note_encodings()
        images = copy.copy(self.tree)
        images.images = [file for file in self.tree.images if file not in self.not_images]
        found.note_unused(images, 'have no annotation and are left out')
        return found


def count_kinds(kinds: Counter[str]) -> str:
    """Return names with their counts: ``3 point, 1 line``."""
    return ', '.join(f'{count} {kind}' for kind, count in kinds.most_common())


def find_image(tree: FileTree, name: str, near: PurePosixPath) -> Path | str:
    """Find an image, see :meth:`FileTree.find_image`; the name may also be percent-encoded as in a URL."""
    found = tree.find_image(name, near, split_of(near))
    if isinstance(found, str) and '%' in name:
        other = tree.find_image(unquote(name), near, split_of(near))
        return other if isinstance(other, Path) else found
    return found


def _scale(path: Path, stated: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the factors from coordinates in an image of a stated size to pixels of the file; None if it does not fit.

    A resized image has the same ratio of the sides, up to rounding.
    """
    size = read_image_size(path) if stated is not None and min(stated) > 0 else None
    if size is None or isinstance(size, str) or size == stated:
        return 1.0, 1.0
    x, y = size[0] / stated[0], size[1] / stated[1]
    return (x, y) if abs(stated[0] * y - size[0]) <= 1 or abs(stated[1] * x - size[1]) <= 1 else None


def _plain(value: float) -> float:
    """Return an integer as one, for messages."""
    return int(value) if value == int(value) else value


def _bitmap_rle(shape: Shape, x: float, y: float, size: tuple[int, int]) -> dict:
    """Return the RLE of a bitmap, resized to the nearest pixels."""
    pixels, (left, top) = np.asarray(shape.bitmap), shape.origin
    if (x, y) != (1, 1):
        height, width = pixels.shape
        x1, y1, x2, y2 = round(left * x), round(top * y), round((left + width) * x), round((top + height) * y)
        columns = np.clip(((np.arange(x1, x2) + 0.5) / x - left).astype(int), 0, width - 1)
        rows = np.clip(((np.arange(y1, y2) + 0.5) / y - top).astype(int), 0, height - 1)
        pixels, left, top = pixels[rows][:, columns], x1, y1
    return crop_rle(pixels, left, top, *size)


def _scaled(polygon: Sequence[float], x: float, y: float) -> list[float]:
    return [value * (y if i % 2 else x) for i, value in enumerate(polygon)]
