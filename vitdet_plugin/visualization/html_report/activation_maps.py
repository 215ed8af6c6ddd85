"""Activation maps of some images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from vitdet_plugin.engine.load_model import LoadedModel
from vitdet_plugin.errors import UserError
from vitdet_plugin.utils.class_names import name_of_label
from vitdet_plugin.utils.track import track
from vitdet_plugin.visualization.cam import CamExplainer
from vitdet_plugin.visualization.draw import rescale
from vitdet_plugin.visualization.heat import draw_outlines, overlay
from vitdet_plugin.visualization.html_report.elements import ImageBudget, note, section, tag
from vitdet_plugin.visualization.query_attention import has_queries

_SIDE, _BOXES = 300, 3  # longer side of a map in pixels; boxes of an image


def activation_section(loaded: LoadedModel, files: Sequence[str], classes: Sequence[str], score_thr: float,
                       budget: ImageBudget) -> Element:
    """Draw activation maps: of the predicted class of a classifier, of the best boxes of a detector.

    Args:
        loaded: The model.
        files: Images.
        classes: Names of the model's classes.
        score_thr: Lowest score of boxes.
        budget: Limit of the size of the images.

    Raises:
        UserError: The model has no feature maps, or a package is missing.
    """
    explainer = CamExplainer(loaded)
    rows, empty = [], []
    for file in track(files, len(files), 'activation maps'):
        image, maps = explainer(Path(file), max_boxes=_BOXES, score_thr=score_thr)
        if not maps:
            empty.append(Path(file).name)
            continue
        figures = [_figure(image, Path(file).name, [each.box for each in maps if each.box is not None], budget)]
        for each in maps:
            name = name_of_label(each.label, classes)
            figures.append(_figure(overlay(image, each.map), f'{name} {each.score:.2f}',
                                   [] if each.box is None else [each.box], budget))
        if None in figures:
            break
        rows.append(tag('div', figures, class_='gallery'))
    if not rows and not empty:
        raise UserError('no image could be shown')
    what = ('of the predicted class' if loaded.is_classifier else
            f'of up to {_BOXES} boxes of each image with score ≥ {score_thr:g}')
    meaning = (f'Where the decoder reads for the query {what}: yellow is read most.' if not loaded.is_classifier and
               has_queries(loaded.model) else f'What raises the score {what}: yellow raises it most.')
    return section('Activation maps', note(f'{meaning} The first image of a row is the input of the network.'), rows,
                   note(f'No box of this score: {", ".join(empty)}.') if empty else None)


def _figure(image: np.ndarray, caption: str, boxes: Sequence[np.ndarray], budget: ImageBudget) -> Element | None:
    scale = min(1.0, _SIDE / max(image.shape[:2]))
    drawn = rescale(image, scale) if scale < 1 else image.copy()
    draw_outlines(drawn, boxes, scale)
    embedded = budget.embed(drawn, caption)
    return None if embedded is None else tag('figure', embedded, tag('figcaption', caption))
