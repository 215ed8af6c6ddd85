"""Statistics of a data set before training: classes, sizes, unreadable images, duplicates."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitdet_plugin.datasets.coco import annotation_box, is_crowd
from vitdet_plugin.datasets.image_probe import ImageProbe, UnreadableImage, decoder_limits, probe_image
from vitdet_plugin.datasets.image_sets import ImageSet
from vitdet_plugin.utils.text import counted, escape
from vitdet_plugin.utils.track import track

Probe = ImageProbe | UnreadableImage
FileOfSplit = tuple[str, str, str | None]  # split, file, class
_SHOWN = 5  # full names in the text; the JSON has all
COCO_AREAS = (('small', 0, 32**2), ('medium', 32**2, 96**2), ('large', 96**2, float('inf')))  # square pixels


@dataclass
class SplitStats:
    """Statistics of one split.

    Attributes:
        images: Number of images, unreadable ones included.
        class_images: Images of each class, in the order of the classes; for a detection set: images with at least one
            object of the class.
        class_objects: Objects of each class; None for a classification set.
        sizes: (N, 2) width and height in pixels of the readable images, after the EXIF orientation.
        box_sizes: (M, 2) width and height in pixels of the boxes without crowds; None for a classification set.
        objects_in_image: Number of objects of each image; empty for a classification set.
        broken: Unreadable files and the reasons.
        odd_boxes: ``file: annotation id`` of boxes without area or beyond the image by more than a pixel.
        wrong_sizes: Files whose size as read differs from the annotated one, with both sizes.
        other_formats: Files whose suffix is that of another format, and their actual format.
        modes: Mode of Pillow and number of images.
        rotated: Number of images with an EXIF orientation.
        other_files: Files that are not images by their suffix.
        outside: Images outside of the class folders, which are not used.
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
    outside: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for ``json.dump``."""
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
    """Statistics of all splits of a data set, and images that occur more than once.

    Attributes:
        classes: Names of the labels.
        splits: One entry for each split.
        duplicates: Groups of ``(split, file, class or None)`` with the same pixels.
        similar: The same for images whose fingerprints differ in few bits.
    """

    classes: list[str]
    splits: list[SplitStats]
    duplicates: list[list[FileOfSplit]]
    similar: list[list[FileOfSplit]]

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for ``json.dump``."""
        return dict(classes=self.classes, splits={split.name: split.as_dict() for split in self.splits},
                    duplicates=self.duplicates, similar=self.similar)

    def __str__(self) -> str:
        return '\n'.join([_class_table(self), '', *[line for split in self.splits for line in _describe(split)],
                          *_describe_groups('the same pixels', self.duplicates),
                          *_describe_groups('similar', self.similar)])


def probe_all(paths: Sequence[Path], workers: int | None = None) -> list[Probe]:
    """Decode all images and return their properties with fingerprints, in order; shows the progress.

    Args:
        paths: Image files.
        workers: Threads; by default one per core, at most 8.
    """
    with decoder_limits(), ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        return list(track(pool.map(partial(probe_image, fingerprints=True), paths), len(paths), 'images'))


def collect_stats(sets: Sequence[ImageSet], near_bits: int | None = None, workers: int | None = None) -> SetStats:
    """Read every image of the splits of a data set.

    Args:
        sets: The splits; their classes are the same.
        near_bits: Also find images whose fingerprints of 256 bits differ in at most this many.
        workers: Threads; by default one per core, at most 8.
    """
    entries = [(each, index) for each in sets for index in range(len(each))]
    probes = probe_all([each.path(index) for each, index in entries], workers)
    splits, start = [], 0
    for images in sets:
        splits.append(_split_stats(images, probes[start:start + len(images)]))
        start += len(images)
    same = equal_pixels(probes)
    similar = similar_groups(probes, near_bits) if near_bits is not None else []
    similar = [group for group in similar if len({probes[position].digest for position in group}) > 1]
    classes = [escape(name) for name in sets[0].classes]
    return SetStats(classes, splits, *([[_file_of_split(*entries[position]) for position in group]
                                        for group in groups] for groups in (same, similar)))


def equal_pixels(probes: Sequence[Probe]) -> list[list[int]]:
    """Return the positions of images with the same pixels, each list with at least two."""
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, probe in enumerate(probes):
        if isinstance(probe, ImageProbe) and probe.digest:
            by_digest[probe.digest].append(index)
    return [members for members in by_digest.values() if len(members) > 1]


def similar_groups(probes: Sequence[Probe], bits: int, block: int = 1024) -> list[list[int]]:
    """Group images that are linked by fingerprints which differ in few bits.

    Args:
        probes: Probes with fingerprints; unreadable images are skipped.
        bits: Largest number of different bits of 256.
        block: Number of fingerprints to compare with all others at a time.

    Returns:
        Positions in ``probes`` of each group of at least two images.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    positions = np.array([position for position, probe in enumerate(probes) if isinstance(probe, ImageProbe)])
    if len(positions) < 2:
        return []
    prints = np.stack([probes[position].bits for position in positions]).astype(np.float32)  # (N, 256)
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
    for position, number in zip(positions, component):
        groups[number].append(int(position))
    return [group for group in groups.values() if len(group) > 1]


def box_areas(box_sizes: np.ndarray) -> dict[str, int]:
    """Count small, medium and large boxes by COCO's limits of area; ``box_sizes`` is (M, 2) in pixels."""
    areas = box_sizes.prod(1)
    return {name: int(((areas >= low) & (areas < high)).sum()) for name, low, high in COCO_AREAS}


def _split_stats(images: ImageSet, probes: Sequence[Probe]) -> SplitStats:
    readable = {name: probe for name, probe in zip(images.files, probes) if isinstance(probe, ImageProbe)}
    good = [probe for probe in probes if isinstance(probe, ImageProbe)]
    stats = SplitStats(
        images.name, len(images), [0] * len(images.classes), None,
        np.array([probe.size_as_read for probe in good], int).reshape(-1, 2), None,
        broken={name: str(probe) for name, probe in zip(images.files, probes) if isinstance(probe, UnreadableImage)},
        other_formats={name: probe.other_format for name, probe in readable.items() if probe.other_format},
        modes=dict(Counter(probe.mode for probe in good).most_common()),
        rotated=sum(probe.is_rotated for probe in good), other_files=images.other_files,
        outside=images.outside)
    if images.labels is None:
        _add_objects(stats, images, probes)
    else:
        for label in images.labels:
            stats.class_images[label] += 1
    return stats


def _add_objects(stats: SplitStats, images: ImageSet, probes: Sequence[Probe]) -> None:
    stats.class_objects = [0] * len(images.classes)
    box_sizes = []
    for name, objects, annotated, probe in zip(images.files, images.objects, images.sizes, probes):
        stats.objects_in_image.append(len(objects))
        for label in {one['label'] for one in objects}:
            stats.class_images[label] += 1
        size = annotated
        if isinstance(probe, ImageProbe):
            size = annotated or probe.size_as_read
            if annotated and (difference := probe.compare_size(annotated)):
                stats.wrong_sizes.append(f'{name}: {difference}')
        for one in objects:
            stats.class_objects[one['label']] += 1
            box = annotation_box(one)
            if box is None or _is_odd(box, size):
                stats.odd_boxes.append(f'{name}: annotation {one.get("id")}')
            elif not is_crowd(one):
                box_sizes.append(box[2:])
    stats.box_sizes = np.array(box_sizes, float).reshape(-1, 2)


def _is_odd(box: tuple[float, float, float, float], size: tuple[float, float] | None) -> bool:
    x, y, width, height = box
    is_beyond = size is not None and (x < -1 or y < -1 or x + width > size[0] + 1 or y + height > size[1] + 1)
    return width <= 0 or height <= 0 or is_beyond


def _file_of_split(images: ImageSet, index: int) -> FileOfSplit:
    return images.name, images.files[index], images.classes[images.labels[index]] if images.labels else None


def _class_table(stats: SetStats) -> str:
    width = max(len(name) for name in (*stats.classes, 'objects'))
    counts = [split.class_objects or split.class_images for split in stats.splits]
    cells = [max(9, len(split.name) + 2) for split in stats.splits]
    what = 'objects' if stats.splits[0].class_objects is not None else 'images'
    lines = [f'{what:<{width}}' + ''.join(f'{split.name:>{cell}}' for split, cell in zip(stats.splits, cells))]
    for label, name in enumerate(stats.classes):
        lines.append(f'{name:<{width}}' + ''.join(f'{count[label]:>{cell}}' for count, cell in zip(counts, cells)))
    return '\n'.join([*lines, f'{"all":<{width}}' + ''.join(f'{sum(count):>{cell}}'
                                                           for count, cell in zip(counts, cells))])


def _describe(split: SplitStats) -> list[str]:
    lines = [f'{split.name}: {counted(split.images, "image")}']
    if len(split.sizes):
        low, middle, high = split.sizes.min(0), np.median(split.sizes, 0), split.sizes.max(0)
        lines[0] += (f', width {low[0]} to {high[0]} (median {middle[0]:g}), height {low[1]} to {high[1]} (median '
                     f'{middle[1]:g}); ' + ', '.join(f'{count} {mode}' for mode, count in split.modes.items()))
    if split.box_sizes is not None:
        areas = ', '.join(f'{count} {name}' for name, count in box_areas(split.box_sizes).items())
        lines.append(f'  boxes: {areas}; {counted(split.objects_in_image.count(0), "image")} without objects')
    for label, names in (('broken', [f'{name} ({why})' for name, why in split.broken.items()]),
                         ('boxes without area or beyond the image', split.odd_boxes),
                         ('size differs from the annotation file', split.wrong_sizes),
                         ('format differs from the suffix',
                          [f'{name} ({kind})' for name, kind in split.other_formats.items()]),
                         ('not images by their suffix', split.other_files),
                         ('images outside of the class folders, not used', split.outside)):
        if names:
            more = f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''
            lines.append(f'  {label}: {len(names)}: {", ".join(names[:_SHOWN])}{more}')
    if split.rotated:
        lines.append(f'  {split.rotated} with an EXIF orientation')
    return lines


def _describe_groups(what: str, groups: list[list[FileOfSplit]]) -> list[str]:
    if not groups:
        return []
    lines = [f'{what}: {counted(len(groups), "group")}, {counted(sum(map(len, groups)), "image")}']
    leaks = [group for group in groups if len({split for split, _, _ in group}) > 1]
    mixed = [group for group in groups if len({name for _, _, name in group}) > 1]
    for note, chosen in ((' in several splits, so validation results are too good', leaks),
                         (' in several classes, so a label is wrong', mixed)):
        if chosen:
            lines.append(f'  {len(chosen)} of them{note}')
    ordered = [*leaks, *mixed, *groups]
    for group in [group for index, group in enumerate(ordered) if group not in ordered[:index]][:_SHOWN]:
        lines.append('  ' + ' = '.join(f'{split}/{file}' for split, file, _ in group[:_SHOWN]))
    return lines
