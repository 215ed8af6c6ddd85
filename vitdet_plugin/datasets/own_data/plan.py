"""The plan of ``vitdet init``: what it decides about a data set, and why."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from vitdet_plugin.datasets.conversion import Problem
from vitdet_plugin.datasets.formats.base import SourceSet
from vitdet_plugin.datasets.own_data.machine import Machine
from vitdet_plugin.datasets.own_data.models import choose_model
from vitdet_plugin.datasets.own_data.offers import OfferedModel
from vitdet_plugin.datasets.own_data.sizes import (
    InputSize,
    choose_batch,
    choose_input,
    choose_length,
    choose_workers,
)
from vitdet_plugin.datasets.own_data.splits import Splits, choose_splits, count_labels
from vitdet_plugin.datasets.own_data.tasks import choose_task
from vitdet_plugin.datasets.own_data.tiles import cut_images
from vitdet_plugin.errors import UserError

_EVALUATIONS, _FEWEST_EVALUATIONS = 8, 4  # in a training


@dataclass(frozen=True)
class Choices:
    """What the user decides; None leaves it to the plan. See the options of ``vitdet init``."""

    task: str | None = None
    model: str | None = None
    weights: str | None = None
    val_fraction: float | None = None
    group_pattern: str | None = None
    image_size: int | None = None
    batch: int | None = None
    iters: int | None = None
    epochs: int | None = None
    tile: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Plan:
    """All decisions about a data set.

    Attributes:
        source: The data set as read.
        choices: What the user decided.
        task: ``detect``, ``segment`` or ``classify``.
        classes: Names in the order of the labels.
        counts, trained: Objects (or images, for a classifier) of each class in the data set and in its training split.
        images: Number of images of each split, before they are cut into tiles.
        splits: Images, or tiles, of each split.
        model: Starting point.
        weights: File, URL or name in place of the template's weights, or None.
        size: Input size, maps and anchors.
        batch: Images in a step.
        steps: Length of the training in steps.
        workers: Processes that load images.
        reasons: Why, for ``task``, ``model``, ``batch`` and ``steps``.
    """

    source: SourceSet
    choices: Choices
    task: str
    classes: list[str]
    counts: Counter[str]
    trained: Counter[str]
    images: dict[str, int]
    splits: Splits
    model: OfferedModel
    weights: str | None
    size: InputSize
    batch: int
    steps: int
    workers: int
    reasons: dict[str, str]

    @property
    def problems(self) -> list[Problem]:
        """What could not be converted or is not used, with reasons."""
        return [*self.source.problems, *self.splits.problems]

    @property
    def epochs(self) -> int:
        """Length of the training in passes over the training images, rounded up."""
        return math.ceil(self.steps / self.steps_of_epoch)

    @property
    def steps_of_epoch(self) -> int:
        """Number of steps of one pass over the training images, of which the last may have fewer images."""
        return math.ceil(len(self.splits.train) / self.batch)

    @property
    def evaluations(self) -> int:
        """Number of evaluations during training, fewer if they would take longer than the training itself."""
        affordable = max(_FEWEST_EVALUATIONS, self.steps * self.batch // len(self.splits.val))
        return min(_EVALUATIONS, affordable, self.epochs if self.model.kind == 'classifier' else self.steps)


def make_plan(source: SourceSet, choices: Choices, machine: Machine) -> Plan:
    """Decide how to train on a data set.

    Raises:
        UserError: Nothing in it can be trained on, or a choice does not fit it.
    """
    if not source.images:
        listed = '\n'.join(f'  {each}' for each in source.problems[:5])
        raise UserError('no image of the data set can be used' + (f'; the first problems:\n{listed}' if listed else ''))
    reasons = {}
    task, reasons['task'] = choose_task(source, choices.task, choices.model)
    counts = source.count_objects()
    if not counts:
        raise UserError(f'none of the {len(source.images)} images has an object or a class'
                        + (f'; the first problem: {source.problems[0]}' if source.problems else ''))
    source.leave_out_emptied()
    model, weights, reasons['model'] = choose_model(task, choices.model, choices.weights)
    splits = choose_splits(source, choices.val_fraction, choices.seed, choices.group_pattern)
    images = {name: len(each) for name, each in splits.items()}
    trained = sum(map(count_labels, splits.train), Counter())
    if not trained:
        raise UserError('no image to train on has an object; choose other splits, such as --val-fraction 0.2')
    if choices.tile:
        _cut_splits(splits, choices.tile, task)
    size = choose_input(splits.train, model, machine, choices.image_size or choices.tile)
    batch, reasons['batch'] = choose_batch(model, size.image_size, machine, len(splits.train))
    if choices.batch:
        batch, reasons['batch'] = choices.batch, '--batch'
    steps, reasons['steps'] = choose_length(model, len(splits.train), batch, machine)
    if choices.iters or choices.epochs:
        steps = choices.iters or math.ceil((choices.epochs or 1) * len(splits.train) / batch)
        reasons['steps'] = '--iters' if choices.iters else '--epochs'
    classes = list(dict.fromkeys([*source.classes, *sorted(counts)]))
    return Plan(source, choices, task, classes, counts, trained, images, splits, model, weights, size, batch, steps,
                choose_workers(machine), reasons)


def _cut_splits(splits: Splits, tile: int, task: str) -> None:
    """Replace the images of each split by their tiles."""
    if task == 'classify':
        raise UserError('--tile: tiles are for detection; leave it out for the task classify')
    for name, images in splits.items():
        setattr(splits, name, cut_images(images, tile, name, keep_empty=name != 'train'))
