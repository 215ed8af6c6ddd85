"""What ``vitdet init`` prints about its plan: each decision with its reason."""

from __future__ import annotations

from collections import Counter

from vitdet_plugin.datasets.conversion import list_some
from vitdet_plugin.datasets.own_data.plan import Plan
from vitdet_plugin.datasets.own_data.splits import Splits, count_labels
from vitdet_plugin.datasets.own_data.tiles import OVERLAP
from vitdet_plugin.utils.text import counted

_SHOWN = 12  # classes
_RARE = 10  # objects; classes with fewer are named


def describe_plan(plan: Plan) -> list[tuple[str, str]]:
    """Return each decision with its reason, as (subject, text); the subject of further lines is empty."""
    choices, size, model = plan.choices, plan.size, plan.model
    lines = [('task', f'{plan.task}: {plan.reasons["task"]}'), ('classes', _describe_classes(plan))]
    if alike := _alike_but_case(plan.classes):
        lines.append(('', f'{", ".join(alike)} differ in upper and lower case only, and are different classes'))
    lines.append(('splits', f'{_counts(plan.images)}: {plan.splits.reason}'))
    lines += [('', note) for note in (*plan.splits.notes, *_missing_classes(plan.classes, plan.splits))]
    lines.append(('model', f'{model.name}: {plan.reasons["model"]}'))
    if choices.tile:
        tiles = _counts({name: len(images) for name, images in plan.splits.items()})
        lines.append(('tiles', f'{tiles}: of {choices.tile} x {choices.tile} pixels in the resolution of the images, '
                               f'overlapping by {OVERLAP:.0%} or more: --tile'))
    lines.append(('size', f'{size.image_size} pixels: {size.reason if not choices.image_size else "--image-size"}'))
    if size.advice and not choices.tile:
        lines.append(('', size.advice))
    if size.scales:
        strides = 'maps of strides 4 to 64, ' if size.fine else ''
        lines.append(('anchors', f'{strides}sides of {_listed(size.scales)} strides, ratios {_listed(size.ratios)}: '
                                 'they cover the sizes of 90 % of the objects'))
    epochs = f'{counted(plan.epochs, "epoch")} of ' if model.kind == 'classifier' else ''
    steps = plan.steps_of_epoch if epochs else plan.steps
    return [*lines, ('augment', 'horizontal flip, scale and crop; nothing that assumes a direction or a color'),
            ('batch', f'{counted(plan.batch, "image")}: {plan.reasons["batch"]}; {plan.workers} loading processes'),
            ('length', f'{epochs}{steps} steps: {plan.reasons["steps"]}'),
            ('evaluation', f'{plan.evaluations} times; the best and the last checkpoint are kept')]


def _counts(sizes: dict[str, int]) -> str:
    return ', '.join(f'{number} {name}' for name, number in sizes.items())


def _describe_classes(plan: Plan) -> str:
    shown = ', '.join(f'{name} {plan.counts[name]}' for name in plan.classes[:_SHOWN])
    text = f'{len(plan.classes)}: {shown}{", …" if len(plan.classes) > _SHOWN else ""}'
    rare = [f'{name} ({plan.trained[name]})' for name in plan.classes if plan.trained[name] < _RARE]
    return text + (f'; few or none to train on: {list_some(rare, 6)}' if rare else '')


def _alike_but_case(classes: list[str]) -> list[str]:
    by_case = Counter(name.casefold() for name in classes)
    return [name for name in classes if by_case[name.casefold()] > 1]


def _missing_classes(classes: list[str], splits: Splits) -> list[str]:
    """Return a note for each split to which a class of another one is missing."""
    present = {name: {each for image in images for each in count_labels(image)} for name, images in splits.items()}
    lost = {name: [each for each in classes if each not in found and any(each in other for other in present.values())]
            for name, found in present.items()}
    return [f'no image of the {name} split has {list_some(missing, 6)}' for name, missing in lost.items() if missing]


def _listed(values: tuple[float, ...]) -> str:
    return ', '.join(f'{value:g}' for value in values)
