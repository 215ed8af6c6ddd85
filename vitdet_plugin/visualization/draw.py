"""Drawing detections: predictions beside ground truth, readable for small pictures too."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PALETTE = ((230, 57, 70), (46, 134, 240), (58, 190, 96), (250, 158, 32), (160, 86, 224), (0, 184, 196), (240, 98, 178),
           (166, 196, 40), (166, 110, 66), (96, 92, 200), (246, 208, 60), (116, 146, 150))
_SHORTEST, _LONGEST = 560, 1280  # bounds of a panel's longer side in pixels
BACKGROUND, INK = (250, 250, 250), (40, 40, 40)


@dataclass
class Objects:
    """Objects in one picture, in its pixel coordinates.

    Attributes:
        boxes: (N, 4) x1, y1, x2, y2.
        labels: (N,) indices into the class names.
        scores: (N,) in [0, 1]; None for ground truth.
        masks: (N, H, W) boolean; None without masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def above(self, score: float) -> 'Objects':
        """Those with at least this score."""
        if self.scores is None:
            return self
        keep = self.scores >= score
        return Objects(self.boxes[keep], self.labels[keep], self.scores[keep],
                       None if self.masks is None else self.masks[keep])


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB colour of a class index; the same in every picture."""
    if label < len(PALETTE):
        return PALETTE[label]
    hue = (label * 0.618034) % 1.0  # golden ratio: neighbours in the class list get distant hues
    saturation, value = 0.85 - 0.25 * (label % 2), 0.95 - 0.2 * (label % 3 > 0)
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))


def draw_predictions_beside_truth(image: np.ndarray, prediction: Objects, truth: Objects | None,
                                  classes: Sequence[str], score_thr: float = 0.3) -> np.ndarray:
    """Draw one figure: predictions left, ground truth right, captions above, class legend below.

    Args:
        image: (H, W, 3) uint8, RGB. Small pictures are enlarged, large ones reduced.
        prediction: What the model found; objects below ``score_thr`` are left out.
        truth: Annotated objects, or None for a figure of the prediction alone.
        classes: Names of the labels.
        score_thr: Lowest score drawn.

    Returns:
        (H', W', 3) uint8, RGB.
    """
    prediction = prediction.above(score_thr)
    panels = [_panel(image, prediction, classes, f'prediction · {len(prediction)} of score ≥ {score_thr:g}')]
    if truth is not None:
        panels.append(_panel(image, truth, classes, f'ground truth · {len(truth)}'))
    height, gap = panels[0].shape[0], 12
    spacer = np.full((height, gap, 3), BACKGROUND, np.uint8)
    row = np.concatenate([part for panel in panels for part in (spacer, panel)] + [spacer], axis=1)
    shown = sorted({int(label) for each in (prediction, truth) if each is not None for label in each.labels})
    return np.concatenate([row, _legend(row.shape[1], shown, classes)])


def draw_objects(image: np.ndarray, objects: Objects, classes: Sequence[str]) -> np.ndarray:
    """Return the picture (H, W, 3, RGB, uint8) resized for reading, with masks, boxes and labels drawn on it."""
    scale = np.clip(max(image.shape[:2]), _SHORTEST, _LONGEST) / max(image.shape[:2])
    height, width = (round(side * scale) for side in image.shape[:2])
    canvas = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)
    boxes = np.asarray(objects.boxes, np.float64).reshape(-1, 4) * scale
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind='stable')  # small ones on top
    if objects.masks is not None:
        for index in order:
            _draw_mask(canvas, objects.masks[index], class_colour(int(objects.labels[index])))
    for index in order:
        corners = [round(value) for value in boxes[index]]
        cv2.rectangle(canvas, corners[:2], corners[2:], class_colour(int(objects.labels[index])), 2, cv2.LINE_AA)
    return _draw_tags(canvas, boxes[order], [_tag(objects, index, classes) for index in order],
                      [class_colour(int(objects.labels[index])) for index in order])


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> None:
    height, width = canvas.shape[:2]
    soft = cv2.resize(np.asarray(mask, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside = soft >= 0.5
    if not inside.any():
        return
    canvas[inside] = (0.55 * canvas[inside] + 0.45 * np.array(colour)).astype(np.uint8)
    outlines, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, colour, 1, cv2.LINE_AA)


def _tag(objects: Objects, index: int, classes: Sequence[str]) -> str:
    label = int(objects.labels[index])
    name = classes[label] if label < len(classes) else f'class {label}'
    return name if objects.scores is None else f'{name} {objects.scores[index]:.2f}'


def _draw_tags(canvas: np.ndarray, boxes: np.ndarray, texts: Sequence[str],
               colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Write each text on a plate of its colour at a corner of its box where no other plate is yet."""
    picture = Image.fromarray(canvas)
    draw = ImageDraw.Draw(picture)
    font, taken = load_font(15), []
    for (x1, y1, x2, y2), text, colour in zip(boxes, texts, colours):
        width, height = round(draw.textlength(text, font=font)) + 8, 20
        spots = [(x1 - 1, y1 - height), (x1, y1), (x2 - width, y2 - height), (x1 - 1, y2), (x2 - width, y1 - height)]
        plates = [_moved_inside(x, y, width, height, canvas.shape) for x, y in spots]
        plate = next((each for each in plates if not any(_overlap(each, other) for other in taken)), None)
        if plate is None:
            continue  # in a crowd the colour and the legend must do
        taken.append(plate)
        draw.rectangle(plate, fill=colour)
        draw.text((plate[0] + 4, plate[1] + 1), text, font=font, fill=_ink_on(colour))
    return np.array(picture)


def _moved_inside(x: float, y: float, width: int, height: int, shape: tuple) -> tuple[int, int, int, int]:
    x = round(min(max(x, 0), max(shape[1] - width, 0)))
    y = round(min(max(y, 0), max(shape[0] - height, 0)))
    return x, y, x + width, y + height


def _overlap(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = colour
    return (20, 20, 20) if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else (255, 255, 255)


def _panel(image: np.ndarray, objects: Objects, classes: Sequence[str], caption: str) -> np.ndarray:
    drawn = draw_objects(image, objects, classes)
    strip = Image.new('RGB', (drawn.shape[1], 36), BACKGROUND)
    ImageDraw.Draw(strip).text((0, 7), caption, font=load_font(18), fill=INK)
    return np.concatenate([np.array(strip), drawn])


def _legend(width: int, labels: Sequence[int], classes: Sequence[str]) -> np.ndarray:
    font = load_font(16)
    places, x, y = [], 12, 8
    for label in labels:
        name = classes[label] if label < len(classes) else f'class {label}'
        space = 24 + round(font.getlength(name)) + 20
        if x > 12 and x + space > width:
            x, y = 12, y + 26
        places.append((x, y, name, class_colour(label)))
        x += space
    strip = Image.new('RGB', (width, y + 30), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for x, y, name, colour in places:
        draw.rectangle((x, y + 2, x + 15, y + 17), fill=colour)
        draw.text((x + 22, y), name, font=font, fill=INK)
    return np.array(strip)


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """A sans-serif font of so many pixels; matplotlib ships it, so it is the same on every machine."""
    import matplotlib
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'), size)
