"""Many small pictures with captions on one sheet."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from vitdet_plugin.visualization.draw import BACKGROUND, INK, load_font

_GAP, _LINE = 8, 18


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6,
                  side: int = 220) -> np.ndarray:
    """Put pictures side by side.

    Args:
        images: Each (H, W, 3) uint8, RGB; fitted into a square of ``side`` pixels.
        captions: A text for each; lines that are too long are cut.
        columns: Pictures in a row.
        side: In pixels.

    Returns:
        (H', W', 3) uint8, RGB.
    """
    lines = max((caption.count('\n') + 1 for caption in captions), default=1)
    font, cell = load_font(13), (side + _GAP, side + _GAP + lines * _LINE)
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    sheet = Image.new('RGB', (columns * cell[0] + _GAP, rows * cell[1] + _GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for place, (image, caption) in enumerate(zip(images, captions)):
        x, y = _GAP + place % columns * cell[0], _GAP + place // columns * cell[1]
        fitted = Image.fromarray(fit(image, side))
        sheet.paste(fitted, (x + (side - fitted.width) // 2, y + (side - fitted.height) // 2))
        for number, line in enumerate(caption.split('\n')):
            draw.text((x, y + side + 2 + number * _LINE), cut(line, font, side), font=font, fill=INK)
    return np.array(sheet)


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side at ``side`` pixels."""
    scale = side / max(image.shape[:2])
    size = tuple(max(1, round(length * scale)) for length in image.shape[1::-1])
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)


def cut(text: str, font, width: int) -> str:
    """``text`` shortened so that it fits into ``width`` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + '…') > width:
        text = text[:-1]
    return text + '…'
