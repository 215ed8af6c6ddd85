"""What every reader of an annotation format returns: images with their objects, independent of the format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vitdet_plugin.coco.masks import mask_area, mask_bounds
from vitdet_plugin.datasets.conversion import Problem, list_some, probe_header
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
        is_difficult: Whether it is hard to recognize, ``difficult`` of VOC.
    """

    name: str
    box: tuple[float, float, float, float]
    mask: list[list[float]] | dict | None = None
    is_crowd: bool = False
    is_difficult: bool = False


class CutObject(NamedTuple):
    """An object that reached beyond its image and was cut, with the problem that it is if it must not be cut."""

    image: SourceImage
    object: SourceObject
    problem: Problem


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
        refused: Number of further objects that could not be converted.
        absent: Classes that are known to be absent in a set in which not every image was searched for every class
            (LVIS); None if all classes were searched for.
        partly: Classes of which only some objects are annotated.
    """

    path: Path
    width: int
    height: int
    split: str | None = None
    label: str | None = None
    objects: list[SourceObject] = field(default_factory=list)
    refused: int = 0
    absent: tuple[str, ...] | None = None
    partly: tuple[str, ...] = ()

    def has(self, name: str, box: Sequence[float], slack: float = 1.0) -> bool:
        """Whether an object of this class has a box that differs by at most ``slack`` pixels."""
        return any(each.name == name and _distance(each.box, box) <= slack for each in self.objects)


@dataclass
class SourceSet:
    """A data set as a reader found it.

    Attributes:
        format: Name of the format.
        classes: Names in the order of the labels: that of the source if it states one, otherwise sorted.
        images: Every image that the source annotates or lists as a background image.
        problems: Every object, row or file that could not be converted, with its reason.
        notes: Other remarks, each one line, with counts.
        frequencies: ``r``, ``c`` or ``f`` of each class that the source states it for (LVIS).
        cut: Objects that reached beyond the image by more than the rounding of the annotations.
        clipped: Number of objects of which more than a pixel was cut.
    """

    format: str
    classes: list[str] = field(default_factory=list)
    images: list[SourceImage] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frequencies: dict[str, str] = field(default_factory=dict)
    cut: list[CutObject] = field(default_factory=list)
    clipped: int = 0
    _by_path: dict[Path, SourceImage] = field(default_factory=dict, repr=False, compare=False)
    _refused: set[Path] = field(default_factory=set, repr=False, compare=False)

    @property
    def is_classification(self) -> bool:
        """Whether images have one class each in place of objects."""
        return any(image.label is not None for image in self.images)

    def image_at(self, path: Path) -> SourceImage | None:
        """Return the image of a path that was added before, or None."""
        return self._by_path.get(path)

    def add_image(self, path: Path, split: str | None = None, label: str | None = None, where: Path | None = None, *,
                  line: int | None = None, size: tuple[float, float] | None = None,
                  entry: str | None = None) -> SourceImage | None:
        """Add an image, or a problem if its file is missing or cannot be read, or if it was added before.

        Args:
            path: Image file.
            split: See :class:`SourceImage`.
            label: See :class:`SourceImage`.
            where: Annotation file that names the image, for the problem; by default the image itself.
            line: Line in it, for the problem.
            size: (width, height) in pixels that the annotation file states, None if it states none. Another size than
                that of the image as it is read is a problem, since the coordinates do not fit then.
            entry: What the problem is about, such as ``'image 5'``.
        """
        fault = None
        if not path.is_file():
            fault = f'the image {path} does not exist'
        elif path in self._by_path:
            fault = f'{path} is listed twice; the second entry is left out'
        elif isinstance(probe := probe_header(path), str):
            fault = probe if where is None else f'{path}: {probe}'
        elif size is not None and (difference := probe.compare_size(size)):
            fault = f'{path} is {difference}'
        if fault is not None:
            self.refuse_image(path, Problem(where or path, line, f'{entry}: {fault}' if entry else fault))
            return None
        image = SourceImage(path, probe.size_as_read[0], probe.size_as_read[1], split, label)
        self.images.append(image)
        self._by_path[path] = image
        return image

    def refuse_image(self, path: Path, problem: Problem) -> None:
        """Add a problem because of which an image is not part of the set."""
        self._refused.add(path)
        self.problems.append(problem)

    def refuse_object(self, image: SourceImage, problem: Problem) -> None:
        """Add a problem because of which an object of an image is not part of the set."""
        image.refused += 1
        self.problems.append(problem)

    def leave_out_emptied(self) -> None:
        """Leave out the images whose objects were all refused, with a note: they do not show background only."""
        emptied = [image for image in self.images if image.refused and not image.objects and image.label is None]
        if emptied:
            lost = set(map(id, emptied))
            self.images = [image for image in self.images if id(image) not in lost]
            self.notes.append(f'{len(emptied)} images are left out because none of their objects could be converted: '
                              f'{list_some([image.path.name for image in emptied])}')

    def add_object(self, image: SourceImage, name: str, where: Path, line: int | None = None, *,
                   box: Sequence[float] | None = None, mask: list[list[float]] | dict | None = None,
                   is_crowd: bool = False, entry: str | None = None) -> SourceObject | None:
        """Add an object, cut at the border of the image, or a problem if nothing of it is left.

        Args:
            image: Image that this set contains.
            name: Class name; must not be empty.
            where: Annotation file, for the problem.
            line: Line or number of the object in it, for the problem.
            box: Corners (x1, y1, x2, y2) in pixels; by default the bounds of the mask.
            mask: Polygons in pixels, or an RLE of the size of the image. Polygons that enclose nothing within the
                image are left out of a mask that has others.
            is_crowd: See :class:`SourceObject`.
            entry: What the problem is about, such as ``'annotation 5'``.
        """
        try:
            found, beyond, before = _build_object(image, name, box, mask, is_crowd)
        except ValueError as error:
            self.refuse_object(image, Problem(where, line, f'{entry}: {error}' if entry else str(error)))
            return None
        image.objects.append(found)
        self.clipped += beyond > 1
        # files hold rounded numbers: an error in the sixth decimal is up to half a pixel in a million
        if beyond > 1e-5 * max(image.width, image.height) + 1e-3:
            fault = f'{name}: {before} reaches beyond the image of {image.width} x {image.height}'
            self.cut.append(CutObject(image, found, Problem(where, line, f'{entry}: {fault}' if entry else fault)))
        return found

    def leave_out_cut(self, advice: str) -> None:
        """Leave out the objects that reached beyond their image, each with a problem.

        Args:
            advice: What the user can do, for the end of the problem.
        """
        lost = {id(each.object) for each in self.cut}
        for image in {id(each.image): each.image for each in self.cut}.values():
            image.objects = [each for each in image.objects if id(each) not in lost]
        self.problems += [Problem(each.file, each.line, f'{each.text} ({advice})')
                          for each in (cut.problem for cut in self.cut)]
        self.cut, self.clipped = [], 0

    def count_objects(self) -> Counter[str]:
        """Return the number of objects (of images, in a set for classification) of each class that occurs."""
        return Counter(name for image in self.images
                       for name in ([image.label] if image.label is not None else
                                    [each.name for each in image.objects]))

    def sort_classes(self) -> None:
        """Set ``classes`` to the names that occur, sorted; numbers by their value."""
        self.classes = sort_names(self.count_objects())

    def note_unused(self, tree: FileTree, reason: str, noted: Iterable[PurePosixPath] = ()) -> None:
        """Add a note about the images below the folder that were not added, if there are any.

        Args:
            tree: The files.
            reason: Continues "12 images …".
            noted: Images that another note names.
        """
        added = self._by_path.keys() | self._refused | {tree.path(file) for file in noted}
        if tree.chosen is None and (unused := [str(file) for file in tree.images if tree.path(file) not in added]):
            self.notes.append(f'{len(unused)} images {reason}: {list_some(unused)}')


class Doubtful(str):
    """Evidence that another format outweighs, since files of other formats can look the same."""


class LastResort(Doubtful):
    """Evidence that also doubtful evidence outweighs: names of folders only, or annotations without their images."""


class Format(NamedTuple):
    """An annotation format.

    Attributes:
        name: Short name for ``--format``.
        looks_for: What a data set of this format contains, as the end of a sentence, for the list of known formats.
        recognize: Takes the files of a folder and returns the evidence, one phrase with counts (``'data.yaml with 3
            names, 120 label files'``), or None if they are not of this format. :class:`Doubtful` evidence counts only
            if there is no better one. Reads as little as possible and never raises for foreign content.
        read: Takes the files and returns the data set.
        is_automatic: Whether it is recognized; otherwise it is used only if the user names it, for files that another
            format would read in another way.
    """

    name: str
    looks_for: str
    recognize: Callable[[FileTree], str | None]
    read: Callable[[FileTree], SourceSet]
    is_automatic: bool = True


def sort_names(names: Iterable[str]) -> list[str]:
    """Return names in sorted order, by their value if all are integers."""
    names = list(names)
    return sorted(names, key=int) if all(name.isascii() and name.isdigit() for name in names) else sorted(names)


def _build_object(image: SourceImage, name: str, box: Sequence[float] | None, mask: list[list[float]] | dict | None,
                  is_crowd: bool) -> tuple[SourceObject, float, str]:
    """Return an object within the image, by how many pixels it reached beyond it, and a description of that part.

    Raises:
        ValueError: With the reason why nothing is left.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError('an object without a class name')
    beyond, before = 0.0, ''
    if isinstance(mask, dict):
        if list(mask.get('size') or []) != [image.height, image.width]:
            raise ValueError(f'{name}: a mask of size {mask.get("size")} in an image of {image.height} x {image.width}')
        if not mask_area(mask):
            raise ValueError(f'{name}: the mask encloses nothing' if mask_area(mask) == 0 else
                             f'{name}: the mask is not a valid RLE')
    elif mask is not None:
        parts = [each for each in mask if isinstance(each, (list, tuple))] if isinstance(mask, (list, tuple)) else []
        whole = [polygon for each in parts if (polygon := _numbers(each)) and len(each) >= 6 and len(each) % 2 == 0]
        mask = [_clip(polygon, image) for polygon in whole]
        beyond, before = max((_distance(a, b) for a, b in zip(mask, whole)), default=0.0), 'a polygon'
        mask = [polygon for polygon in mask if mask_area([polygon])]
        if not mask:
            raise ValueError(f'{name}: the mask encloses nothing within the image')
    if box is None and mask is not None and (bounds := mask_bounds(mask)):
        box = (bounds[0], bounds[1], bounds[0] + bounds[2], bounds[1] + bounds[3])
    corners = _numbers(box or ())
    if corners is None or len(corners) != 4:
        raise ValueError(f'{name}: a box needs four finite numbers, found {list(box or ())}')
    clipped = _clip(corners, image)
    numbers = f'box ({", ".join(f"{value:g}" for value in corners)})'
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        raise ValueError(f'{name}: {numbers} has no area within the image of {image.width} x {image.height}')
    if (distance := _distance(clipped, corners)) > beyond:
        beyond, before = distance, numbers
    return SourceObject(name.strip(), (clipped[0], clipped[1], clipped[2], clipped[3]), mask, is_crowd), beyond, before


def _numbers(values: Iterable[Any]) -> list[float] | None:
    """Return finite numbers, or None if a value is not one."""
    try:
        found = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(map(math.isfinite, found)) else None


def _clip(values: Sequence[float], image: SourceImage) -> list[float]:
    """Move coordinates x, y, x, y, ... into the image."""
    sides = image.width, image.height
    return [min(max(float(value), 0.0), float(sides[i % 2])) for i, value in enumerate(values)]


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b))
