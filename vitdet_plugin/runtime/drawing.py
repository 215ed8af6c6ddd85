"""Images with drawn results, with OpenCV or with Pillow."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError
from .libraries import opencv
from .masks import decode_mask
from .results import Classification, Detections

Color = tuple[int, int, int]


def draw(image: np.ndarray, result: Detections | Classification) -> np.ndarray:
    """Draw masks, boxes and labels, or the most likely classes.

    Args:
        image: (H, W), or (H, W, C), BGR if C is 3; uint8.
        result: What was predicted for it.

    Returns:
        (H, W, 3) uint8 in BGR order.
    """
    layers = image.reshape(*image.shape[:2], -1)
    canvas = np.ascontiguousarray(layers[..., :3] if layers.shape[2] >= 3 else np.repeat(layers[..., :1], 3, 2))
    if isinstance(result, Classification):
        texts = [((2, 2 + 18 * line), f'{name} {score:.2f}', (40, 40, 40))
                 for line, (name, score) in enumerate(result.top(3))]
        return _write(canvas, [], texts)
    for label, rle in zip(result.labels, result.rles or ()):
        mask = decode_mask(rle)
        canvas[mask] = (0.55 * canvas[mask] + 0.45 * np.array(_color(int(label)))).astype(np.uint8)
    boxes, texts = [], []
    for box, label, name, score in zip(result.boxes, result.labels, result.names, result.scores):
        corner = tuple(int(round(float(value))) for value in box)
        boxes.append((corner, _color(int(label))))
        texts.append(((corner[0], max(corner[1] - 16, 0)), f'{name} {score:.2f}', _color(int(label))))
    return _write(canvas, boxes, texts)


def write_image(path: Path, image: np.ndarray) -> None:
    """Write a JPEG file of an image (H, W, 3) uint8 in BGR order.

    Raises:
        ModelError: It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2 = opencv()
        if cv2 is not None:
            path.write_bytes(cv2.imencode('.jpg', image)[1].tobytes())
            return
        from PIL import Image
        Image.fromarray(image[..., ::-1]).save(path, quality=95)
    except OSError as error:
        raise ModelError(f'{path} cannot be written ({error.strerror or error}); choose another folder') from error


def drawn_paths(folder: Path) -> Callable[[str | None], Path]:
    """Return a function that gives each image its own file in a folder."""
    taken: set[str] = set()

    def path_of(name: str | None) -> Path:
        stem, number = Path(name or 'image').stem, 1
        while (unique := stem if number == 1 else f'{stem}_{number}').casefold() in taken:
            number += 1
        taken.add(unique.casefold())
        return folder / f'{unique}.jpg'
    return path_of


def _color(label: int) -> Color:
    """Return the BGR color of a class."""
    parts = colorsys.hsv_to_rgb(label * 0.618034 % 1, 0.8, 0.9)  # consecutive classes get distant hues
    return tuple(round(255 * part) for part in parts[::-1])  # type: ignore[return-value]


def _write(canvas: np.ndarray, boxes: list[tuple[Any, Color]], texts: list[tuple[Any, str, Color]]) -> np.ndarray:
    cv2 = opencv()
    if cv2 is not None and all(text.isascii() for _, text, _ in texts):  # OpenCV has no other letters
        for (x1, y1, x2, y2), color in boxes:
            cv2.rectangle(canvas, (x1, y1), (x2, y2), color, 2)
        for (x, y), text, color in texts:
            (width, height), low = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
            cv2.rectangle(canvas, (x, y), (x + width + 4, y + height + low + 2), color, -1)
            cv2.putText(canvas, text, (x + 2, y + height + 1), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1,
                        cv2.LINE_AA)
        return canvas
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        return _write(canvas, boxes, [(at, text.encode('ascii', 'replace').decode(), color)
                                      for at, text, color in texts])
    figure = Image.fromarray(canvas[..., ::-1])
    pen = ImageDraw.Draw(figure)
    for corners, color in boxes:
        pen.rectangle(_ordered(corners), outline=color[::-1], width=2)
    for at, text, color in texts:
        left, top, right, bottom = pen.textbbox(at, text)
        pen.rectangle((left, top, right + 4, bottom + 2), fill=color[::-1])
        pen.text((at[0] + 2, at[1]), text, fill=(255, 255, 255))
    return np.ascontiguousarray(np.asarray(figure)[..., ::-1])


def _ordered(corners: Any) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = corners
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
