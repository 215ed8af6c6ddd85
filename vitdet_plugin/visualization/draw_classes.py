"""Drawing a classification: the picture, the likeliest classes as bars, and the true class where it is known."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from vitdet_plugin.visualization.draw import BACKGROUND, INK, class_colour, load_font

_SIDE, _BARS, _ROW = 320, 340, 46  # the picture's longer side, the width of the bars' panel, height of a bar's row
_RIGHT, _WRONG, _GREY = (34, 139, 60), (200, 40, 40), (120, 120, 120)


def draw_classification(image: np.ndarray, scores: np.ndarray, classes: Sequence[str], truth: int | None = None,
                        top: int = 5) -> np.ndarray:
    """Draw one figure: the picture left, the best classes right; the headline is green if the best one is true.

    Args:
        image: (H, W, 3) uint8, RGB.
        scores: (K,) probabilities.
        classes: Names of the labels.
        truth: The true label, if known.
        top: Number of bars.

    Returns:
        (H', W', 3) uint8, RGB.
    """
    best = np.argsort(-scores, kind='stable')[:top]
    scale = _SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    picture = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    sheet = Image.new('RGB', (12 + _SIDE + 16 + _BARS + 12, 44 + _SIDE + 12), BACKGROUND)
    sheet.paste(Image.fromarray(picture), (12 + (_SIDE - width) // 2, 44 + (_SIDE - height) // 2))
    draw = ImageDraw.Draw(sheet)
    colour = INK if truth is None else _RIGHT if best[0] == truth else _WRONG
    headline = f'{_name(best[0], classes)} {scores[best[0]]:.2f}'
    if truth is not None:
        headline += ' · right' if best[0] == truth else f' · truth: {_name(truth, classes)}'
    draw.text((12, 10), headline, font=load_font(18), fill=colour)
    left = 12 + _SIDE + 16
    for row, label in enumerate(best):
        y = 44 + row * _ROW
        draw.text((left, y), _name(label, classes), font=load_font(15), fill=_RIGHT if label == truth else INK)
        draw.rectangle((left, y + 21, left + _BARS - 60, y + 33), fill=(232, 232, 232))
        if (length := round(float(scores[label]) * (_BARS - 60))) > 0:
            draw.rectangle((left, y + 21, left + length, y + 33), fill=class_colour(int(label)))
        draw.text((left + _BARS - 52, y + 19), f'{scores[label]:.3f}', font=load_font(13), fill=_GREY)
    return np.array(sheet)


def _name(label: int, classes: Sequence[str]) -> str:
    return classes[label] if label < len(classes) else f'class {label}'
