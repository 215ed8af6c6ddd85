"""Statistics of a data set before training: classes, sizes, broken pictures, doubles."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitdet_plugin.datasets.image_facts import ImageFacts, inspect_image
from vitdet_plugin.datasets.image_sets import ImageSet
from vitdet_plugin.utils.track import track

_SHOWN = 5  # names in full in the text; JSON has all
COCO_AREAS = (('small', 0, 32**2), ('medium', 32**2, 96**2), ('large', 96**2, float('inf')))


@dataclass
class SplitStats:
    """Statistics of one split.

    Attributes:
        images: pictures, broken ones included.
        class_images: pictures of each class, in the order of the classes; of a detection set: with such an object.
        class_objects: objects of each class; None for a classification set.
        sizes: (N, 2) width and height of the pictures that can be read.
        box_sizes: (M, 2) width and height of the boxes, crowds left out; None for a classification set.
        objects_in_image: number of objects of each picture; empty for a classification set.
        broken: file to reason.
        odd_boxes: ``file: annotation id`` of boxes without area or beyond the picture by more than a pixel.
        wrong_sizes: files whose size is not what the COCO file says.
        other_formats: file to the format that it has in spite of its suffix.
        modes: colour mode to number of pictures.
        rotated: pictures that EXIF asks to turn.
        other_files: files that are no pictures by their suffix.
    """

    name: str
    images: int
    class_images: list[int]
    class_objects: list[int] | None
    sizes: np.ndarray
    box_sizes: np.ndarray | None
    objects_in_image: list[int] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    odd_boxes: list[str] = field(default_factory=list)
    wrong_sizes: list[str] = field(default_factory=list)
    other_formats: dict[str, str] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    rotated: int = 0
    other_files: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        plain = {**vars(self)}
        plain['sizes'] = Counter(f'{width}x{height}' for width, height in self.sizes.tolist())
        plain['objects_in_image'] = Counter(self.objects_in_image)
        del plain['box_sizes']
        if self.box_sizes is not None:
            plain['boxes'] = {**box_areas(self.box_sizes), 'median_width_height':
                              np.median(self.box_sizes, 0).tolist() if len(self.box_sizes) else None}
        return plain


@dataclass
class SetStats:
    """Statistics of all splits of a set, and pictures that occur more than once.

    Attributes:
        classes: names of the labels.
        duplicates: groups of ``(split, file, class or None)`` with the same pixels.
        similar: the same for pictures that differ in few bits of their fingerprint.
    """

    classes: list[str]
    splits: list[SplitStats]
    duplicates: list[list[tuple[str, str, str | None]]]
    similar: list[list[tuple[str, str, str | None]]]

    def as_dict(self) -> dict[str, Any]:
        """For ``json.dump``."""
        return dict(classes=self.classes, splits={split.name: split.as_dict() for split in self.splits},
                    duplicates=self.duplicates, similar=self.similar)

    def __str__(self) -> str:
        return '\n'.join([_class_table(self), '', *[line for split in self.splits for line in _describe(split)],
                          *_describe_groups('the same pixels', self.duplicates),
                          *_describe_groups('similar', self.similar)])


def collect_stats(sets: Sequence[ImageSet], near_bits: int | None = None, workers: int | None = None) -> SetStats:
    """Read every picture of the splits of a set.

    Args:
        sets: The splits; their classes are the same.
        near_bits: Also look for pictures whose fingerprints of 256 bits differ in at most so many.
        workers: Threads; by default as many as cores, at most 8.
    """
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        everything = [(each, index) for each in sets for index in range(len(each))]
        found = pool.map(lambda entry: inspect_image(entry[0].path(entry[1])), everything)
        facts = list(track(found, len(everything), 'pictures'))
    splits, start = [], 0
    for images in sets:
        splits.append(_split_stats(images, facts[start:start + len(images)]))
        start += len(images)
    groups = defaultdict(list)
    for place, each in enumerate(facts):
        if isinstance(each, ImageFacts):
            groups[each.digest].append(place)
    same = [group for group in groups.values() if len(group) > 1]
    similar = similar_groups(facts, near_bits) if near_bits is not None else []
    similar = [group for group in similar if len({facts[place].digest for place in group}) > 1]
    return SetStats(sets[0].classes, splits, *([[_named(*everything[place]) for place in group] for group in groups]
                                               for groups in (same, similar)))


def similar_groups(facts: Sequence[ImageFacts | str], bits: int, block: int = 1024) -> list[list[int]]:
    """Places of pictures that are linked by fingerprints which differ in at most ``bits`` of 256."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    places = np.array([place for place, each in enumerate(facts) if isinstance(each, ImageFacts)])
    if len(places) < 2:
        return []
    prints = np.stack([facts[place].bits for place in places]).astype(np.float32)
    rows, columns = [], []
    for start in range(0, len(prints), block):
        equal_bits = (prints[start:start + block] @ prints[start:].T + prints.shape[1]) / 2
        near = np.argwhere(prints.shape[1] - equal_bits <= bits)
        near = near[near[:, 0] < near[:, 1]] + start
        rows.append(near[:, 0])
        columns.append(near[:, 1])
    rows, columns = np.concatenate(rows), np.concatenate(columns)
    graph = coo_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(len(prints),) * 2)
    _, component = connected_components(graph, directed=False)
    groups = defaultdict(list)
    for place, number in zip(places, component):
        groups[number].append(int(place))
    return [group for group in groups.values() if len(group) > 1]


def box_areas(box_sizes: np.ndarray) -> dict[str, int]:
    """Number of small, medium and large boxes by COCO's limits of area."""
    areas = box_sizes.prod(1)
    return {name: int(((areas >= low) & (areas < high)).sum()) for name, low, high in COCO_AREAS}


def _split_stats(images: ImageSet, facts: Sequence[ImageFacts | str]) -> SplitStats:
    good = [each for each in facts if isinstance(each, ImageFacts)]
    sizes = np.array([(each.width, each.height) for each in good], int).reshape(-1, 2)
    stats = SplitStats(
        images.name, len(images), [0] * len(images.classes), None, sizes, None,
        broken={name: each for name, each in zip(images.files, facts) if isinstance(each, str)},
        other_formats={name: each.format for name, each in zip(images.files, facts)
                       if isinstance(each, ImageFacts) and each.format},
        modes=dict(Counter(each.mode for each in good).most_common()), rotated=sum(each.rotated for each in good),
        other_files=images.other_files)
    if images.labels is not None:
        for label in images.labels:
            stats.class_images[label] += 1
        return stats
    stats.class_objects = [0] * len(images.classes)
    boxes = []
    for name, objects, told, each in zip(images.files, images.objects, images.sizes, facts):
        stats.objects_in_image.append(len(objects))
        for label in {one['label'] for one in objects}:
            stats.class_images[label] += 1
        size = (each.width, each.height) if isinstance(each, ImageFacts) else told
        if isinstance(each, ImageFacts) and told and size not in (told, told[::-1] if each.rotated else None):
            stats.wrong_sizes.append(f'{name}: {size[0]}x{size[1]}, the file says {told[0]}x{told[1]}')
        for one in objects:
            stats.class_objects[one['label']] += 1
            if _is_odd(one.get('bbox'), told or size):
                stats.odd_boxes.append(f'{name}: annotation {one.get("id")}')
            elif not one.get('iscrowd'):
                boxes.append(one['bbox'][2:])
    stats.box_sizes = np.array(boxes, float).reshape(-1, 2)
    return stats


def _is_odd(box: Any, size: tuple[int, int] | None) -> bool:
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError):
        return True
    beyond = size is not None and (x < -1 or y < -1 or x + width > size[0] + 1 or y + height > size[1] + 1)
    return not (width > 0 and height > 0) or beyond  # NaN included


def _named(images: ImageSet, index: int) -> tuple[str, str, str | None]:
    return images.name, images.files[index], images.classes[images.labels[index]] if images.labels else None


def _class_table(stats: SetStats) -> str:
    width = max(len(name) for name in (*stats.classes, 'pictures'))
    counts = [split.class_objects or split.class_images for split in stats.splits]
    cells = [max(9, len(split.name) + 2) for split in stats.splits]
    what = 'objects' if stats.splits[0].class_objects is not None else 'pictures'
    lines = [f'{what:<{width}}' + ''.join(f'{split.name:>{cell}}' for split, cell in zip(stats.splits, cells))]
    for label, name in enumerate(stats.classes):
        lines.append(f'{name:<{width}}' + ''.join(f'{count[label]:>{cell}}' for count, cell in zip(counts, cells)))
    return '\n'.join([*lines, f'{"all":<{width}}' + ''.join(f'{sum(count):>{cell}}'
                                                           for count, cell in zip(counts, cells))])


def _describe(split: SplitStats) -> list[str]:
    lines = [f'{split.name}: {split.images} pictures']
    if len(split.sizes):
        low, middle, high = split.sizes.min(0), np.median(split.sizes, 0), split.sizes.max(0)
        lines[0] += (f', width {low[0]} to {high[0]} (median {middle[0]:g}), height {low[1]} to {high[1]} (median '
                     f'{middle[1]:g}); ' + ', '.join(f'{count} {mode}' for mode, count in split.modes.items()))
    if split.box_sizes is not None:
        areas = ', '.join(f'{count} {name}' for name, count in box_areas(split.box_sizes).items())
        lines.append(f'  boxes: {areas}; {split.objects_in_image.count(0)} pictures without objects')
    for label, names in (('broken', [f'{name} ({why})' for name, why in split.broken.items()]),
                         ('boxes without area or beyond the picture', split.odd_boxes),
                         ('another size than the file says', split.wrong_sizes),
                         ('another format than the suffix says',
                          [f'{name} ({kind})' for name, kind in split.other_formats.items()]),
                         ('no pictures', split.other_files)):
        if names:
            more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
            lines.append(f'  {label}: {len(names)}: {", ".join(names[:_SHOWN])}{more}')
    if split.rotated:
        lines.append(f'  {split.rotated} are turned by EXIF')
    return lines


def _describe_groups(what: str, groups: list[list[tuple[str, str, str | None]]]) -> list[str]:
    if not groups:
        return []
    lines = [f'{what}: {len(groups)} groups, {sum(map(len, groups))} pictures']
    leaks = [group for group in groups if len({split for split, _, _ in group}) > 1]
    mixed = [group for group in groups if len({name for _, _, name in group}) > 1]
    for note, chosen in ((' in several splits, so validation is not honest', leaks),
                         (' in several classes, so a label is wrong', mixed)):
        if chosen:
            lines.append(f'  {len(chosen)} of them{note}')
    ordered = [*leaks, *mixed, *groups]
    for group in [group for place, group in enumerate(ordered) if group not in ordered[:place]][:_SHOWN]:
        lines.append('  ' + ' = '.join(f'{split}/{file}' for split, file, _ in group[:_SHOWN]))
    return lines
