"""Choose the train, val and test splits of a data set, without equal images or members of a group in two of them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from vitdet_plugin.config.dataset_config import SPLITS
from vitdet_plugin.datasets.conversion import Problem
from vitdet_plugin.datasets.formats.base import SourceImage, SourceSet
from vitdet_plugin.datasets.image_probe import ImageProbe, UnreadableImage
from vitdet_plugin.datasets.own_data.grouping import Grouping, groupings, groups_by_name
from vitdet_plugin.datasets.set_stats import equal_pixels, probe_all
from vitdet_plugin.datasets.split import groups_by_pattern
from vitdet_plugin.datasets.stratify import choose_part
from vitdet_plugin.errors import UserError

FRACTION = 0.2
_FEWEST_VAL = 4  # images, if the set has five times as many
_TOLERANCE = 0.5  # of the share of the validation split, for groups to be kept together
_MISSING_CLASSES, _FEWEST_OF_CLASS = 0.2, 5  # share of the classes of 5 or more images that may lack on one side


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
        return [(name, images) for name in SPLITS if (images := getattr(self, name))]


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
    splits = Splits()
    images, probes = _usable_images(source, splits)
    own = Counter(image.split for image in images)
    if not own['train'] and not own['val'] and not own[None]:  # a test split alone
        own = Counter({None: len(images)})
    splits.test = [image for image in images if image.split == 'test'] if len(own) > 1 else []
    pool = [index for index, image in enumerate(images) if image.split != 'test' or not splits.test]
    if (own['train'] or own[None]) and own['val'] and fraction is None:
        chosen = {index for index in pool if images[index].split == 'val'}
        splits.reason = 'those of the source'
        _note_shared_groups(splits, images, source)
    else:
        groups = groups_by_pattern([str(images[i].path) for i in pool], pattern) if pattern else None
        ways = groupings([images[i].path for i in pool], [probes[i] for i in pool], not source.is_classification,
                         groups)
        chosen = {pool[i] for i in _choose_val([images[i] for i in pool], ways, fraction or FRACTION, seed, splits)}
        kept = 'the test split of the source is kept, ' if splits.test else ''
        splits.reason = f'{kept}{len(chosen) / len(pool):.0%} of the images for validation, stratified by class'
    splits.val = [images[i] for i in pool if i in chosen]
    copies = {index: members for members in equal_pixels(probes) for index in members}
    _fill_train(splits, images, [i for i in pool if i not in chosen], copies)
    if not splits.val:
        splits.val = list(splits.train)
        splits.reason = ('the same images for training and validation, because they cannot be divided: the metrics say '
                         'nothing about other images')
    return splits


def _usable_images(source: SourceSet, splits: Splits) -> tuple[list[SourceImage], list[ImageProbe]]:
    """Return the images that can be decoded, without those of published test sets, and their properties."""
    probes = probe_all([image.path for image in source.images])
    for image, probe in zip(source.images, probes):
        if isinstance(probe, UnreadableImage):
            splits.problems.append(Problem(image.path, None, f'the image {probe}; {_contents(image)} left out'))
    found = [(image, probe) for image, probe in zip(source.images, probes) if isinstance(probe, ImageProbe)]
    splits.probes = {os.path.abspath(image.path): probe for image, probe in found}
    if not found:
        raise UserError(f'none of the {len(source.images)} images can be decoded; the first: {splits.problems[0]}'
                        if splits.problems else 'the data set has no images')
    for name in _unannotated_splits([image for image, _ in found]):
        lost = sum(image.split == name for image, _ in found)
        splits.notes.append(f'the {lost} images of the {name} split of the source have no annotations: left out')
        found = [(image, probe) for image, probe in found if image.split != name]
    return [image for image, _ in found], [probe for _, probe in found]


def _note_shared_groups(splits: Splits, images: list[SourceImage], source: SourceSet) -> None:
    """Add a note if the source's splits divide groups by name, such as the frames of a video."""
    keys, reason = groups_by_name([image.path for image in images], not source.is_classification)
    sides = [{key for key, image in zip(keys, images) if (image.split == 'val') == is_val} for is_val in (True, False)]
    if reason and (shared := len(sides[0] & sides[1])):
        splits.notes.append(f'{reason}: {shared} of {len(set(keys))} groups have images both for training and for '
                            'validation, so the metrics may be too good; --val-fraction makes new splits')


def _unannotated_splits(images: list[SourceImage]) -> list[str]:
    """Return val and test if the source has images in them and states nothing about any, as in published test sets."""
    annotated = {image.split for image in images if image.objects or image.label is not None}
    return [name for name in ('val', 'test') if annotated and name not in annotated
            and any(image.split == name for image in images)]


def _choose_val(images: list[SourceImage], ways: Iterable[Grouping], fraction: float, seed: int, splits: Splits
                ) -> list[int]:
    """Choose images for validation by the strictest grouping that allows for its share of the images and classes."""
    labels = [count_labels(image) for image in images]
    fraction = max(fraction, min(_FEWEST_VAL, len(images) // 5) / len(images))
    strictest = None
    for grouping in ways:
        strictest = strictest or grouping
        chosen = choose_part(labels, grouping.groups, fraction, seed)
        if _has_its_share(labels, chosen, fraction):
            break
    remarks = [each for each in (grouping.reason, *grouping.notes) if each]
    if remarks and chosen:
        splits.notes.append(f'{"; ".join(remarks)}: kept in one split')
    if strictest is not None and (others := {strictest.reason, *strictest.notes} - {*remarks, ''}):
        splits.notes.append(f'{"; ".join(sorted(others))}: not kept in one split, since that would leave classes or '
                            'too many images out of the other; --group-pattern sets the groups')
    if strictest is not None and strictest.doubtful:
        splits.notes.append(f'{strictest.doubtful}: not kept in one split, since so few or large groups may be '
                            'something else than videos; --group-pattern sets the groups')
    return chosen


def _has_its_share(labels: list[Counter], chosen: list[int], fraction: float) -> bool:
    """Whether a part has about its share of the samples, and the other side of it most of the classes too."""
    if abs(len(chosen) - fraction * len(labels)) > max(1, _TOLERANCE * fraction * len(labels)):
        return False
    inside = set(chosen)
    counts = [Counter(name for index, each in enumerate(labels) for name in each if (index in inside) == is_inside)
              for is_inside in (True, False)]
    large = [name for name, count in (counts[0] + counts[1]).items() if count >= _FEWEST_OF_CLASS]
    missing = [name for name in large if not counts[0][name] or not counts[1][name]]
    return len(missing) <= _MISSING_CLASSES * len(large)


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
