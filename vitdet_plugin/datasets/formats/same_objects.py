"""Choose between several formats in one folder, such as COCO files next to the VOC files they were converted from."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

from vitdet_plugin.datasets.formats.base import Format, SourceImage, SourceSet
from vitdet_plugin.datasets.formats.tree import FileTree

_SLACK = 1.5  # pixels; coordinates may count from 0 or 1
_DIFFERENT = 0.01  # share of the objects that one of the formats may lack, such as boxes without area


def choose_equal(found: Sequence[tuple[Format, str]], tree: FileTree) -> tuple[Format, str] | str:
    """Choose a format if all of them describe the same objects.

    Formats with masks come first, then those with splits, then the order of ``found``. A format that describes more
    images than another one, and the same objects in the images of both, is chosen before it.

    Args:
        found: The formats that fit, with their evidence.
        tree: The files.

    Returns:
        The format and its evidence with the reason; or in what two of them differ.
    """
    sets = [form.read(tree) for form, _ in found]
    if not any(each.images for each in sets):  # the first problems of one say why
        return found[0]
    by_path = _by_key(sets)
    most = max(map(len, by_path))
    order = sorted(range(len(found)), key=lambda i: (len(by_path[i]) < most, not _has_masks(sets[i]),
                                                     not any(image.split for image in sets[i].images), i))
    first = order[0]
    name = found[first][0].name
    for other in order[1:]:
        if reason := _difference(by_path[first], by_path[other], name, found[other][0].name):
            return reason
    others = ' and '.join(found[i][0].name for i in order[1:])
    verbs, all_of_them = ('describes the same objects and is', 'both') if len(order) == 2 else (
        'describe the same objects and are', 'each')
    count = sum(len(image.objects) for image in sets[first].images)
    return found[first][0], f'{found[first][1]}; {others} {verbs} not read: ' + (
        f'{name} has more images' if any(len(by_path[i]) < most for i in order[1:]) else
        f'{name} has masks' if _has_masks(sets[first]) and not all(_has_masks(sets[i]) for i in order) else
        f'{name} states splits' if any(image.split for image in sets[first].images) and not all(
            any(image.split for image in sets[i].images) for i in order) else f'{count} objects in {all_of_them}')


def _by_key(sets: Sequence[SourceSet]) -> list[dict[Hashable, SourceImage]]:
    """Return the images of each format by path; by name and size if converters copied them to other folders."""
    found: list[dict[Hashable, SourceImage]] = [{image.path.resolve(): image for image in each.images} for each in sets]
    if set.intersection(*(set(each) for each in found)):
        return found
    named: list[dict[Hashable, SourceImage]] = [
        {(image.path.name, image.width, image.height): image for image in each.images} for each in sets]
    return named if all(map(len, named)) and [*map(len, named)] == [*map(len, found)] else found


def _has_masks(found: SourceSet) -> bool:
    return any(each.mask is not None for image in found.images for each in image.objects)


def _difference(larger: Mapping[Hashable, SourceImage], smaller: Mapping[Hashable, SourceImage], name: str,
                other: str) -> str:
    """Return in what two formats differ, empty if they describe the same objects in the images of the second one."""
    if not larger or not smaller:
        return f'none of the images of {name if not larger else other} can be read'
    if alone := [image for key, image in smaller.items() if key not in larger]:
        return f'only {other} describes {alone[0].path.name}'
    total = lost = 0
    first = ''
    for key, image in smaller.items():
        counterpart, path = larger[key], image.path
        for a, b in ((image, counterpart), (counterpart, image)):
            if a.label != b.label:
                return f'{path.name} is {a.label} in one and {b.label} in the other'
            missing = [each for each in a.objects if not b.has(each.name, each.box, _SLACK)]
            total, lost = total + len(a.objects), lost + len(missing)
            if missing and not first:
                box = ', '.join(f'{value:g}' for value in missing[0].box)
                first = f'{path.name}: {missing[0].name} ({box}) is in {name if a is counterpart else other} only'
    return f'{first}; {lost} of {total} objects differ' if lost > _DIFFERENT * total else ''
