"""Drawing of a classification: the image, the classes of highest score as bars, and the true class."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vitdet_plugin.utils.class_names import name_of_label
from vitdet_plugin.visualization.draw import BACKGROUND, TEXT_COLOR, class_color, load_font, rescale

_SIDE, _BARS, _ROW = 320, 340, 46  # longer side of the image, width of the panel of bars, height of a bar, in pixels
_CORRECT, _WRONG, _GRAY = (34, 139, 60), (200, 40, 40), (120, 120, 120)


def draw_classification(image: np.ndarray, scores: np.ndarray, classes: Sequence[str], truth: int | None = None,
                        top: int = 5) -> np.ndarray:
    """Draw the image on the left and the classes of highest score on the right.

    The title is green if the predicted class is correct and red if it is wrong.

    Args:
        image: Image of shape ``(H, W, 3)``, uint8, RGB.
        scores: Probabilities of shape ``(K,)``.
        classes: Names of the classes.
        truth: The true class, if known.
        top: Number of classes to draw.

    Returns:
        Figure of shape ``(H', W', 3)``, uint8, RGB.
    """
    best = np.argsort(-scores, kind='stable')[:top]
    resized = rescale(image, _SIDE / max(image.shape[:2]))
    height, width = resized.shape[:2]
    figure = Image.new('RGB', (12 + _SIDE + 16 + _BARS + 12, 44 + _SIDE + 12), BACKGROUND)
    figure.paste(Image.fromarray(resized), (12 + (_SIDE - width) // 2, 44 + (_SIDE - height) // 2))
    draw = ImageDraw.Draw(figure)
    color = TEXT_COLOR if truth is None else _CORRECT if best[0] == truth else _WRONG
    title = f'{name_of_label(best[0], classes)} {scores[best[0]]:.2f}'
    if truth is not None:
        title += ' · correct' if best[0] == truth else f' · truth: {name_of_label(truth, classes)}'
    draw.text((12, 10), title, font=load_font(18), fill=color)
    left = 12 + _SIDE + 16
    for row, label in enumerate(best):
        y = 44 + row * _ROW
        draw.text((left, y), name_of_label(label, classes), font=load_font(15),
                  fill=_CORRECT if label == truth else TEXT_COLOR)
        draw.rectangle((left, y + 21, left + _BARS - 60, y + 33), fill=(232, 232, 232))
        if (length := round(float(scores[label]) * (_BARS - 60))) > 0:
            draw.rectangle((left, y + 21, left + length, y + 33), fill=class_color(int(label)))
        draw.text((left + _BARS - 52, y + 19), f'{scores[label]:.3f}', font=load_font(13), fill=_GRAY)
    return np.array(figure)
