"""The plan of ``vitdet init``: what it decides about a data set, and why."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from vitdet_plugin.datasets.conversion import Problem, list_some
from vitdet_plugin.datasets.formats.base import SourceSet
from vitdet_plugin.datasets.own_data.machine import Machine
from vitdet_plugin.datasets.own_data.models import choose_model
from vitdet_plugin.datasets.own_data.offers import MODELS, OfferedModel
from vitdet_plugin.datasets.own_data.sizes import (
    InputSize,
    choose_batch,
    choose_input,
    choose_length,
    choose_workers,
)
from vitdet_plugin.datasets.own_data.splits import Splits, choose_splits, count_labels
from vitdet_plugin.datasets.own_data.tiles import OVERLAP, cut_images
from vitdet_plugin.errors import UserError

_ENOUGH_MASKS = 0.9  # share of the objects
_RARE = 10  # objects; classes with fewer are named
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


@dataclass
class Plan:
    """All decisions about a data set.

    Attributes:
        source: The data set as read.
        task: ``detect``, ``segment`` or ``classify``.
        classes: Names in the order of the labels.
        splits: Images of each split.
        model: Starting point.
        weights: File, URL or name in place of the template's weights, or None.
        size: Input size, maps and anchors.
        batch: Images in a step.
        steps: Length of the training in steps.
        workers: Processes that load images.
        seed: Of splits and training.
        tile: Side of the tiles that images are cut into, or None.
        lines: Each decision with its reason, as (subject, text).
    """

    source: SourceSet
    task: str
    classes: list[str]
    splits: Splits
    model: OfferedModel
    weights: str | None
    size: InputSize
    batch: int
    steps: int
    workers: int
    seed: int
    tile: int | None = None
    lines: list[tuple[str, str]] = field(default_factory=list)

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

    def __str__(self) -> str:
        return '\n'.join(f'{subject:<10} {text}' for subject, text in self.lines)


def make_plan(source: SourceSet, choices: Choices, machine: Machine) -> Plan:
    """Decide how to train on a data set.

    Raises:
        UserError: Nothing in it can be trained on, or a choice does not fit it.
    """
    if not source.images:
        listed = '\n'.join(f'  {each}' for each in source.problems[:5])
        raise UserError('no image of the data set can be used' + (f'; the first problems:\n{listed}' if listed else ''))
    task, task_reason = choose_task(source, choices.task)
    if task == 'segment' and not choices.task and choices.model in MODELS and MODELS[choices.model].task == 'detect':
        task, task_reason = 'detect', f'--model {choices.model} has boxes only; {task_reason} are not used'
    counts = source.count_objects()
    if not counts:
        raise UserError(f'none of the {len(source.images)} images has an object or a class'
                        + (f'; the first problem: {source.problems[0]}' if source.problems else ''))
    source.leave_out_emptied()
    model, weights, model_reason = choose_model(task, choices.model, choices.weights)
    splits = choose_splits(source, choices.val_fraction, choices.seed, choices.group_pattern)
    classes = list(dict.fromkeys([*source.classes, *sorted(counts)]))
    trained = sum(map(count_labels, splits.train), Counter())
    sizes = ', '.join(f'{len(images)} {name}' for name, images in splits.items())
    if not trained:
        raise UserError('no image to train on has an object; choose other splits, such as --val-fraction 0.2')
    if choices.tile:
        if task == 'classify':
            raise UserError('--tile: tiles are for detection; leave it out for the task classify')
        for name, images in splits.items():
            setattr(splits, name, cut_images(images, choices.tile, name, keep_empty=name != 'train'))
    size = choose_input(splits.train, model, machine, choices.image_size or choices.tile)
    batch, batch_reason = choose_batch(model, size.image_size, machine, len(splits.train))
    if choices.batch:
        batch, batch_reason = choices.batch, '--batch'
    steps, length_reason = choose_length(model, len(splits.train), batch, machine)
    if choices.iters or choices.epochs:
        steps = choices.iters or math.ceil((choices.epochs or 1) * len(splits.train) / batch)
        length_reason = '--iters' if choices.iters else '--epochs'
    plan = Plan(source, task, classes, splits, model, weights, size, batch, steps, choose_workers(machine),
                choices.seed, choices.tile)
    lines = [('task', f'{task}: {task_reason}'), ('classes', _describe_classes(classes, counts, trained)),
             ('splits', f'{sizes}: {splits.reason}'),
             *(('', note) for note in splits.notes), *(('', note) for note in _missing_classes(classes, splits)),
             ('model', f'{model.name}: {model_reason}')]
    by_case = Counter(name.casefold() for name in classes)
    if alike := [name for name in classes if by_case[name.casefold()] > 1]:
        lines.insert(2, ('', f'{", ".join(alike)} differ in upper and lower case only, and are different classes'))
    if choices.tile:
        cut = ', '.join(f'{len(images)} {name}' for name, images in splits.items())
        lines.append(('tiles', f'{cut}: of {choices.tile} x {choices.tile} pixels in the resolution of the images, '
                               f'overlapping by {OVERLAP:.0%} or more: --tile'))
    lines.append(('size', f'{size.image_size} pixels: {size.reason if not choices.image_size else "--image-size"}'))
    if size.advice and not choices.tile:
        lines.append(('', size.advice))
    if size.scales:
        strides = 'maps of strides 4 to 64, ' if size.fine else ''
        lines.append(('anchors', f'{strides}sides of {_listed(size.scales)} strides, ratios {_listed(size.ratios)}: '
                                 'they cover the sizes of 90 % of the objects'))
    lines += [('augment', 'horizontal flip, scale and crop; nothing that assumes a direction or a color'),
              ('batch', f'{batch} images: {batch_reason}; {plan.workers} loading processes'),
              ('length', f'{plan.epochs} epochs of {plan.steps_of_epoch} steps: {length_reason}'
               if model.kind == 'classifier' else f'{steps} steps: {length_reason}'),
              ('evaluation', f'{evaluations(plan)} times; the best and the last checkpoint are kept')]
    plan.lines = lines
    return plan


def evaluations(plan: Plan) -> int:
    """Return the number of evaluations during training, fewer if they would take longer than the training itself."""
    affordable = max(_FEWEST_EVALUATIONS, plan.steps * plan.batch // len(plan.splits.val))
    return min(_EVALUATIONS, affordable, plan.epochs if plan.model.kind == 'classifier' else plan.steps)


def choose_task(source: SourceSet, given: str | None = None) -> tuple[str, str]:
    """Return the task and the reason.

    Raises:
        UserError: The data set does not have what the given task needs.
    """
    if source.is_classification:
        if given in ('detect', 'segment'):
            raise UserError(f'--task {given}: the data set has one class for each image and no objects; use --task '
                            'classify')
        return 'classify', 'one class for each image'
    objects = [each for image in source.images for each in image.objects]
    masks = sum(each.mask is not None for each in objects)
    share = masks / max(len(objects), 1)
    if given == 'classify':
        raise UserError('--task classify: the data set has objects, not one class for each image; give a folder with '
                        'one folder for each class')
    if given == 'segment' and not masks:
        raise UserError(f'--task segment: none of the {len(objects)} objects has a mask; use --task detect')
    stated = f'masks on {masks} of {len(objects)} objects'
    if given == 'segment' or given is None and share >= _ENOUGH_MASKS:
        rest = f'; the box is the mask of the other {len(objects) - masks}' if masks < len(objects) else ''
        return 'segment', stated + rest
    if given == 'detect' and masks:
        return 'detect', f'--task; {stated} are not used'
    return 'detect', f'{stated}, too few to learn masks' if masks else f'{len(objects)} objects with boxes, no masks'


def _describe_classes(classes: list[str], counts: Counter, trained: Counter) -> str:
    shown = ', '.join(f'{name} {counts[name]}' for name in classes[:12])
    text = f'{len(classes)}: {shown}{", …" if len(classes) > 12 else ""}'
    rare = [f'{name} ({trained[name]})' for name in classes if trained[name] < _RARE]
    return text + (f'; few or none to train on: {list_some(rare, 6)}' if rare else '')


def _missing_classes(classes: list[str], splits: Splits) -> list[str]:
    """Return a note for each split to which a class of another one is missing."""
    present = {name: {each for image in images for each in count_labels(image)} for name, images in splits.items()}
    lost = {name: [each for each in classes if each not in found and any(each in other for other in present.values())]
            for name, found in present.items()}
    return [f'no image of the {name} split has {list_some(missing, 6)}' for name, missing in lost.items() if missing]


def _listed(values: tuple[float, ...]) -> str:
    return ', '.join(f'{value:g}' for value in values)
