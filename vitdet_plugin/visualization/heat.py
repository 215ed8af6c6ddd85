"""Heat maps drawn over pictures."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from vitdet_plugin.visualization.cam import Heat
from vitdet_plugin.visualization.draw import BACKGROUND, INK, load_font
from vitdet_plugin.visualization.sheet import cut

_PANEL, _GAP, _STRIP = 360, 10, 30  # longest side of a panel, space between, height of a caption; pixels


def overlay(image: np.ndarray, heat_map: np.ndarray, opacity: float = 0.6) -> np.ndarray:
    """Lay a map over a picture: dark blue is nothing, yellow is most.

    Args:
        image: (H, W, 3) uint8, RGB.
        heat_map: (H, W) in [0, 1].
        opacity: Of the hottest places; cold ones stay as they are.
    """
    colours = cv2.applyColorMap((np.clip(heat_map, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    weight = opacity * (0.35 + 0.65 * heat_map[..., None])
    grey = image.mean(2, keepdims=True).repeat(3, 2) * 0.5 + image * 0.5  # colours of the map stand out
    return (grey * (1 - weight) + colours * weight).round().astype(np.uint8)


def draw_heats(image: np.ndarray, heats: Sequence[Heat], classes: Sequence[str] | None, title: str = '') -> np.ndarray:
    """A figure: the picture, and beside it each heat map over it with class, score and box.

    Args:
        image: (H, W, 3) uint8, RGB.
        heats: Maps of that size.
        classes: Names of the labels.
        title: Caption of the picture.

    Returns:
        (H', W', 3) uint8, RGB.
    """
    scale = _PANEL / max(image.shape[:2])
    panels = [_panel(image, title, [heat.box for heat in heats if heat.box is not None], scale)]
    for heat in heats:
        name = classes[heat.label] if classes and heat.label < len(classes) else f'class {heat.label}'
        panels.append(_panel(overlay(image, heat.map), f'{name} {heat.score:.2f}',
                             [] if heat.box is None else [heat.box], scale))
    columns = min(len(panels), 4)
    panels += [np.full_like(panels[0], BACKGROUND[0])] * (-len(panels) % columns)
    rows = [np.concatenate(panels[start:start + columns], 1) for start in range(0, len(panels), columns)]
    return np.concatenate(rows)


def _panel(image: np.ndarray, caption: str, boxes: Sequence[np.ndarray], scale: float) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    drawn = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    for x1, y1, x2, y2 in boxes:
        corners = [round(float(value) * scale) for value in (x1, y1, x2, y2)]
        cv2.rectangle(drawn, corners[:2], corners[2:], (255, 255, 255), 3, cv2.LINE_AA)
        cv2.rectangle(drawn, corners[:2], corners[2:], (20, 120, 60), 1, cv2.LINE_AA)
    frame = Image.new('RGB', (width + 2 * _GAP, height + _STRIP + _GAP), BACKGROUND)
    font = load_font(15)
    ImageDraw.Draw(frame).text((_GAP, 6), cut(caption, font, width), font=font, fill=INK)
    frame.paste(Image.fromarray(drawn), (_GAP, _STRIP))
    return np.array(frame)
