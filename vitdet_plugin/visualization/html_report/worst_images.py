"""Images with the most errors of a detector, and the most confident mistakes of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from vitdet_plugin.datasets.image_reader import decode
from vitdet_plugin.evaluation.box_errors import CORRECT, IGNORED, Boxes, match_boxes
from vitdet_plugin.evaluation.classifications import ClassifiedSplit
from vitdet_plugin.evaluation.detections import DetectedSplit
from vitdet_plugin.evaluation.detector_report import DetectorReport
from vitdet_plugin.utils.mask_rle import RleMasks
from vitdet_plugin.visualization.draw import PALETTE, Objects, draw_objects
from vitdet_plugin.visualization.html_report.elements import ImageBudget, note, section, tag
from vitdet_plugin.visualization.sheet import resize_to_fit

_TITLE = 'Worst images'
_ERROR, _MATCHED = PALETTE[0], PALETTE[1]  # red, blue
_SIDE, _SMALL = 600, 240  # longer side in pixels of an image of a detector and of a classifier


def worst_detections(split: DetectedSplit, report: DetectorReport, count: int, budget: ImageBudget) -> Element:
    """Draw predictions and annotations of the images with the most errors.

    Args:
        split: The objects of all images.
        report: Its report.
        count: Largest number of images.
        budget: Limit of their size.
    """
    totals = [sum(kinds.values()) for kinds in report.image_errors]
    order = [index for index in np.argsort([-total for total in totals], kind='stable') if totals[index]][:count]
    shown, unreadable = [], []
    for index in order:
        image = decode(split.files[index])
        if image is None:
            unreadable.append(Path(split.files[index]).name)
            continue
        truth, found = split.truth[index], split.found[index].filter_by_score(report.score_thr)
        matches = match_boxes(truth, found, len(split.classes))
        notes = ['' if is_found else 'not found' for is_found in matches.is_found]
        panels = [(f'{len(found)} predicted', found, ['' if kind == CORRECT else kind for kind in matches.kinds]),
                  (f'{len(truth)} annotated', truth, notes)]
        figures = [_panel(image, boxes, split.classes, notes, caption, budget) for caption, boxes, notes in panels]
        if None in figures:
            break
        kinds = ', '.join(f'{number} {kind}' for kind, number in report.image_errors[index].items() if number)
        count_of_errors = f'{totals[index]} error{"s" * (totals[index] > 1)}'
        shown.append(tag('article', tag('h3', Path(split.files[index]).name), note(f'{count_of_errors}: {kinds}'),
                         tag('div', figures, class_='pair')))
    text = 'No image has an error.' if not order else 'The images with errors cannot be shown.'
    if shown:
        text = (f'The {len(shown)} images with the most errors of {report.images}, with boxes of score ≥ '
                f'{report.score_thr:g}. Blue: matched; red: errors, and objects without a matching box.')
    return section(_TITLE, note(text), shown, _unreadable(unreadable), _full(budget))


def worst_classifications(split: ClassifiedSplit, count: int, budget: ImageBudget) -> Element:
    """Show the images whose wrong class has the highest score.

    Args:
        split: The predictions.
        count: Largest number of images.
        budget: Limit of their size.
    """
    predicted = split.scores.argmax(1)
    wrong = [index for index in np.argsort(-split.scores.max(1), kind='stable') if predicted[index] !=
             split.truth[index]]
    shown, unreadable = [], []
    for index in wrong[:count]:
        image = decode(split.files[index])
        if image is None:
            unreadable.append(Path(split.files[index]).name)
            continue
        name, truth = split.classes[predicted[index]], split.classes[split.truth[index]]
        embedded = budget.embed(_reduced(image[..., ::-1], _SMALL), f'{truth}, predicted as {name}')
        if embedded is None:
            break
        shown.append(tag('figure', embedded, tag('figcaption', tag('b', f'{name} {split.scores[index].max():.2f}'),
                                                 tag('br'), f'truth: {truth}', tag('br'),
                                                 tag('span', Path(split.files[index]).name, class_='file'))))
    intro = note(f'The {len(shown)} most confident of {len(wrong)} mistakes.' if shown else
                 'No image is classified wrongly.' if not wrong else 'The images cannot be shown.')
    return section(_TITLE, intro, tag('div', shown, class_='gallery'), _unreadable(unreadable), _full(budget))


def _panel(image: np.ndarray, boxes: Boxes, classes: Sequence[str], notes: Sequence[str], caption: str,
           budget: ImageBudget) -> Element | None:
    """Draw objects; those with a note are errors."""
    reduced = _reduced(image[..., ::-1], _SIDE)
    scale = reduced.shape[1] / image.shape[1], reduced.shape[0] / image.shape[0]
    masks = None if boxes.rles is None else RleMasks(boxes.rles)
    objects = Objects(boxes.boxes * np.array([*scale, *scale]), boxes.labels, boxes.scores, masks)  # type: ignore[arg-type]
    colors = [_ERROR if note and note != IGNORED else _MATCHED for note in notes]
    drawn = draw_objects(np.ascontiguousarray(reduced), objects, classes, notes, colors)
    embedded = budget.embed(_reduced(drawn, _SIDE), caption)
    return None if embedded is None else tag('figure', embedded, tag('figcaption', caption))


def _reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Return an image with a longer side of at most ``side`` pixels."""
    return image if max(image.shape[:2]) <= side else resize_to_fit(np.ascontiguousarray(image), side)


def _unreadable(names: Sequence[str]) -> Element | None:
    if not names:
        return None
    more = f' and {len(names) - 5} more' if len(names) > 5 else ''
    return note(f'Left out, as they cannot be read: {", ".join(names[:5])}{more}.')


def _full(budget: ImageBudget) -> Element | None:
    return None if budget.left else note('Further images are left out, to limit the size of this page.')
