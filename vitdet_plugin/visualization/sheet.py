"""Grids of small images with captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from vitdet_plugin.visualization.draw import BACKGROUND, TEXT_COLOR, load_font, rescale

_GAP, _LINE = 8, 18


def contact_sheet(images: Sequence[np.ndarray], captions: Sequence[str], columns: int = 6,
                  side: int = 220) -> np.ndarray:
    """Arrange images in a grid.

    Args:
        images: Images of shape ``(H, W, 3)``, uint8, RGB.
        captions: One text per image; lines that are too long are shortened.
        columns: Maximum number of images in a row.
        side: Side in pixels of the square into which each image is resized; the aspect ratio is kept.

    Returns:
        Figure of shape ``(H', W', 3)``, uint8, RGB.
    """
    lines = max((caption.count('\n') + 1 for caption in captions), default=1)
    font, cell = load_font(13), (side + _GAP, side + _GAP + lines * _LINE)
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    sheet = Image.new('RGB', (columns * cell[0] + _GAP, rows * cell[1] + _GAP), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for index, (image, caption) in enumerate(zip(images, captions)):
        x, y = _GAP + index % columns * cell[0], _GAP + index // columns * cell[1]
        fitted = Image.fromarray(resize_to_fit(image, side))
        sheet.paste(fitted, (x + (side - fitted.width) // 2, y + (side - fitted.height) // 2))
        for number, line in enumerate(caption.split('\n')):
            draw.text((x, y + side + 2 + number * _LINE), shorten(line, font, side), font=font, fill=TEXT_COLOR)
    return np.array(sheet)


def resize_to_fit(image: np.ndarray, side: int) -> np.ndarray:
    """Resize an image of shape ``(H, W, 3)`` so that its longer side has ``side`` pixels."""
    return rescale(image, side / max(image.shape[:2]))


def shorten(text: str, font, width: int) -> str:
    """Shorten ``text`` to at most ``width`` pixels, ending with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + '…') > width:
        text = text[:-1]
    return text + '…'
