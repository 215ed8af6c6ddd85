"""Drawing of heat maps over images."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from vitdet_plugin.utils.class_names import name_of_label
from vitdet_plugin.visualization.cam import HeatMap
from vitdet_plugin.visualization.draw import BACKGROUND, TEXT_COLOR, load_font, rescale
from vitdet_plugin.visualization.sheet import shorten

_PANEL, _GAP, _CAPTION = 360, 10, 30  # longer side of a panel, space between panels, height of a caption, in pixels


def overlay(image: np.ndarray, heat_map: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Draw a heat map over an image, from dark blue (0) to yellow (1).

    Args:
        image: Image of shape ``(H, W, 3)``, uint8, RGB.
        heat_map: Values in [0, 1] of shape ``(H, W)``.
        opacity: Opacity of the heat map where it is 1; lower values are more transparent.

    Returns:
        Image of shape ``(H, W, 3)``, uint8, RGB.
    """
    colors = cv2.applyColorMap((np.clip(heat_map, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = opacity * (0.35 + 0.65 * heat_map[..., None])
    gray = image.mean(2, keepdims=True).repeat(3, 2) * 0.5 + image * 0.5  # reduced saturation
    return (gray * (1 - weight) + colors * weight).round().astype(np.uint8)


def draw_heat_maps(image: np.ndarray, heat_maps: Sequence[HeatMap], classes: Sequence[str] | None,
                   title: str = '') -> np.ndarray:
    """Draw an image, followed by one panel with class, score and box for each heat map.

    Args:
        image: Image of shape ``(H, W, 3)``, uint8, RGB.
        heat_maps: Heat maps of the same height and width.
        classes: Names of the classes.
        title: Caption of the image.

    Returns:
        Figure of shape ``(H', W', 3)``, uint8, RGB.
    """
    scale = _PANEL / max(image.shape[:2])
    panels = [_panel(image, title, [each.box for each in heat_maps if each.box is not None], scale)]
    for each in heat_maps:
        panels.append(_panel(overlay(image, each.map), f'{name_of_label(each.label, classes)} {each.score:.2f}',
                             [] if each.box is None else [each.box], scale))
    columns = min(len(panels), 4)
    panels += [np.full_like(panels[0], BACKGROUND[0])] * (-len(panels) % columns)
    rows = [np.concatenate(panels[start:start + columns], 1) for start in range(0, len(panels), columns)]
    return np.concatenate(rows)


def draw_outlines(image: np.ndarray, boxes: Sequence[np.ndarray], scale: float) -> None:
    """Draw boxes on an image in place.

    Args:
        image: Image of shape ``(H, W, 3)``, uint8.
        boxes: Corners x1, y1, x2, y2 of each box before scaling.
        scale: Pixels of ``image`` for one of the boxes.
    """
    for box in boxes:
        corners = [round(float(value) * scale) for value in box]
        cv2.rectangle(image, corners[:2], corners[2:], (255, 255, 255), 3, cv2.LINE_AA)
        cv2.rectangle(image, corners[:2], corners[2:], (20, 120, 60), 1, cv2.LINE_AA)


def _panel(image: np.ndarray, caption: str, boxes: Sequence[np.ndarray], scale: float) -> np.ndarray:
    drawn = rescale(image, scale)
    draw_outlines(drawn, boxes, scale)
    height, width = drawn.shape[:2]
    frame = Image.new('RGB', (width + 2 * _GAP, height + _CAPTION + _GAP), BACKGROUND)
    font = load_font(15)
    ImageDraw.Draw(frame).text((_GAP, 6), shorten(caption, font, width), font=font, fill=TEXT_COLOR)
    frame.paste(Image.fromarray(drawn), (_GAP, _CAPTION))
    return np.array(frame)
