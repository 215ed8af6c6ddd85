"""Choose the train, val and test splits of a data set, without equal images or members of a group in two of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field

from vitdet_plugin.datasets.conversion import Problem
from vitdet_plugin.datasets.formats.base import SourceImage, SourceSet
from vitdet_plugin.datasets.image_probe import ImageProbe, UnreadableImage
from vitdet_plugin.datasets.own_data.grouping import groups_by_name, link_equal
from vitdet_plugin.datasets.own_data.stratify import choose_part
from vitdet_plugin.datasets.set_stats import equal_pixels, probe_all
from vitdet_plugin.datasets.split import groups_by_pattern
from vitdet_plugin.errors import UserError

FRACTION = 0.2
_FEWEST_VAL = 4  # images, if the set has five times as many


@dataclass
class Splits:
    """Images of each split, and how they were chosen.

    Attributes:
        train: Images to train on.
        val: Images to evaluate on during training.
        test: Images of the source's own test split; usually none.
        reason: One phrase.
        notes: Further remarks, one line each.
        problems: Images that are in no split, with their reasons.
        probes: Properties of the images by their absolute path.
    """

    train: list[SourceImage] = field(default_factory=list)
    val: list[SourceImage] = field(default_factory=list)
    test: list[SourceImage] = field(default_factory=list)
    reason: str = ''
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    probes: dict[str, ImageProbe] = field(default_factory=dict)

    def items(self) -> list[tuple[str, list[SourceImage]]]:
        """Return name and images of the splits that are not empty."""
        return [(name, images) for name in ('train', 'val', 'test') if (images := getattr(self, name))]


def choose_splits(source: SourceSet, fraction: float | None = None, seed: int = 0, pattern: str | None = None
                  ) -> Splits:
    """Choose the splits; every image is decoded, to find damaged and equal ones.

    Args:
        source: The data set.
        fraction: Share of the validation split among the images of train and val; by default the source's own splits
            if it has both, otherwise :data:`FRACTION`.
        seed: The same seed gives the same splits.
        pattern: Regular expression whose match in a file name names the group of an image.

    Raises:
        UserError: No image can be decoded, or ``pattern`` does not match a name.
    """
    probes = probe_all([image.path for image in source.images])
    splits = Splits()
    for image, probe in zip(source.images, probes):
        if isinstance(probe, UnreadableImage):
            splits.problems.append(Problem(image.path, None, f'the image {probe}; {_contents(image)} left out'))
    splits.probes = {os.path.abspath(image.path): probe for image, probe in zip(source.images, probes)
                     if isinstance(probe, ImageProbe)}
    images = [image for image, probe in zip(source.images, probes) if not isinstance(probe, UnreadableImage)]
    probes = [probe for probe in probes if not isinstance(probe, UnreadableImage)]
    if not images:
        raise UserError(f'none of the {len(source.images)} images can be decoded; the first: {splits.problems[0]}'
                        if splits.problems else 'the data set has no images')
    for name in _unannotated_splits(images):
        lost = sum(image.split == name for image in images)
        splits.notes.append(f'the {lost} images of the {name} split of the source have no annotations: left out')
        probes = [probe for image, probe in zip(images, probes) if image.split != name]
        images = [image for image in images if image.split != name]
    own = Counter(image.split for image in images)
    if not own['train'] and not own['val'] and not own[None]:  # a test split alone
        own = Counter({None: len(images)})
    splits.test = [image for image in images if image.split == 'test'] if len(own) > 1 else []
    pool = [index for index, image in enumerate(images) if image.split != 'test' or not splits.test]
    copies = {index: members for members in equal_pixels(probes) for index in members}
    if (own['train'] or own[None]) and own['val'] and fraction is None:
        splits.val = [image for image in images if image.split == 'val']
        splits.reason = 'those of the source'
        _fill_train(splits, images, [i for i in pool if images[i].split != 'val'], copies)
        return splits
    keys: list[Hashable]
    if pattern:
        keys, reason = list(groups_by_pattern([str(image.path) for image in images], pattern)), '--group-pattern'
    else:
        keys, reason = groups_by_name([image.path for image in images], not source.is_classification)
    linked, notes = link_equal([keys[i] for i in pool], [probes[i] for i in pool])
    chosen = {pool[i] for i in _choose_val([images[i] for i in pool], linked, fraction or FRACTION, seed)}
    splits.val = [images[i] for i in pool if i in chosen]
    kept = 'the test split of the source is kept, ' if splits.test else ''
    splits.reason = f'{kept}{len(splits.val) / len(pool):.0%} of the images for validation, stratified by class'
    if reason:
        splits.notes.append(f'{reason} stay together: {len(set(keys))} groups')
    if notes and splits.val:
        splits.notes.append(f'{"; ".join(notes)}: kept in one split')
    _fill_train(splits, images, [i for i in pool if i not in chosen], copies)
    if not splits.val:
        splits.val = list(splits.train)
        splits.reason = ('the same images for training and validation, because they cannot be divided: the metrics say '
                         'nothing about other images')
    return splits


def _unannotated_splits(images: list[SourceImage]) -> list[str]:
    """Return val and test if the source has images in them and states nothing about any, as in published test sets."""
    annotated = {image.split for image in images if image.objects or image.label is not None}
    return [name for name in ('val', 'test') if annotated and name not in annotated
            and any(image.split == name for image in images)]


def _choose_val(images: list[SourceImage], groups: list[int], fraction: float, seed: int) -> list[int]:
    fewest = min(_FEWEST_VAL, len(images) // 5)
    return choose_part([count_labels(image) for image in images], groups, max(fraction, fewest / len(images)), seed)


def count_labels(image: SourceImage) -> Counter:
    """Return the number of objects of each class in an image; of an image with a label, that label."""
    return Counter([image.label] if image.label is not None else [each.name for each in image.objects])


def _fill_train(splits: Splits, images: list[SourceImage], indexes: list[int], copies: dict[int, list[int]]) -> None:
    """Fill the training split with images that have no copy in the splits of the evaluation."""
    evaluated = {id(image): name for name in ('val', 'test') for image in getattr(splits, name)}
    left_out = 0
    for index in indexes:
        copy = next((images[other] for other in copies.get(index, ()) if id(images[other]) in evaluated), None)
        if copy is None:
            splits.train.append(images[index])
            continue
        left_out += 1
        splits.problems.append(Problem(images[index].path, None, f'the same pixels as {copy.path} of the '
                                       f'{evaluated[id(copy)]} split; {_contents(images[index])} left out of training'))
    if left_out:
        splits.notes.append(f'{left_out} training images have the same pixels as an image for evaluation: left out')
    if not splits.train:
        splits.train, splits.problems = [images[index] for index in indexes], []
        splits.notes[-1:] = ['every training image has the same pixels as an image for evaluation']


def _contents(image: SourceImage) -> str:
    count = len(image.objects)
    return 'it is' if not count else f'its {count} object{"s are" if count > 1 else " is"}'
