"""Drawing of detected and annotated objects."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitdet_plugin.utils.class_names import name_of_label
from vitdet_plugin.utils.output_files import write_atomically

PALETTE = ((230, 57, 70), (46, 134, 240), (58, 190, 96), (250, 158, 32), (160, 86, 224), (0, 184, 196), (240, 98, 178),
           (166, 196, 40), (166, 110, 66), (96, 92, 200), (246, 208, 60), (116, 146, 150))
_SHORTEST, _LONGEST = 560, 1280  # limits of the longer side of a panel in pixels
_MOST_DRAWN = 50  # predictions, unless more have a score of at least
_SURE = 0.5
_HIDDEN = 0.3  # share of a box that a text may cover
BACKGROUND, TEXT_COLOR = (250, 250, 250), (40, 40, 40)


@dataclass
class Objects:
    """Objects of one image of height H and width W.

    Attributes:
        boxes: Corners x1, y1, x2, y2 in pixels, of shape ``(N, 4)``.
        labels: Class indices of shape ``(N,)``.
        scores: Scores in [0, 1] of shape ``(N,)``; None for ground truth.
        masks: Boolean masks of shape ``(N, H, W)``; None without masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    masks: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def filter_by_score(self, score: float) -> 'Objects':
        """Return the objects with at least this score; ground truth is returned unchanged."""
        return self if self.scores is None else self._select(np.flatnonzero(self.scores >= score))

    def limit(self) -> 'Objects':
        """Return the objects that can be drawn and distinguished: the 50 with the highest scores.

        More are returned if their scores are at least 0.5; ground truth is returned unchanged.
        """
        if self.scores is None or len(self) <= _MOST_DRAWN:
            return self
        count = max(_MOST_DRAWN, int((self.scores >= _SURE).sum()))
        return self._select(np.sort(np.argsort(-self.scores, kind='stable')[:count]))

    def _select(self, keep: np.ndarray) -> 'Objects':
        return Objects(self.boxes[keep], self.labels[keep], None if self.scores is None else self.scores[keep],
                       None if self.masks is None else self.masks[keep])


def class_color(label: int) -> tuple[int, int, int]:
    """Return the RGB color of a class index."""
    if label < len(PALETTE):
        return PALETTE[label]
    hue = (label * 0.618034) % 1.0  # golden ratio: consecutive classes get distant hues
    saturation, value = 0.85 - 0.25 * (label % 2), 0.95 - 0.2 * (label % 3 > 0)
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))


def draw_predictions_and_ground_truth(image: np.ndarray, prediction: Objects, truth: Objects | None,
                                      classes: Sequence[str], score_thr: float = 0.3) -> np.ndarray:
    """Draw predictions on the left, ground truth on the right, captions above and a legend of the classes below.

    Args:
        image: Image of shape ``(H, W, 3)``, uint8, RGB. Small images are enlarged and large ones reduced.
        prediction: Predicted objects.
        truth: Annotated objects; None draws the predictions only.
        classes: Names of the classes.
        score_thr: Lowest score of predictions to draw.

    Returns:
        Figure of shape ``(H', W', 3)``, uint8, RGB. Of many predictions with low scores it shows the best ones, see
        :meth:`Objects.limit`, and the caption states how many.
    """
    prediction = prediction.filter_by_score(score_thr)
    caption = f'prediction · {len(prediction)} with score ≥ {score_thr:g}'
    shown_prediction = prediction.limit()
    if len(shown_prediction) < len(prediction):
        caption += f', the best {len(shown_prediction)} drawn'
    prediction = shown_prediction
    panels = [_panel(image, prediction, classes, caption)]
    if truth is not None:
        panels.append(_panel(image, truth, classes, f'ground truth · {len(truth)}'))
    height, gap = panels[0].shape[0], 12
    spacer = np.full((height, gap, 3), BACKGROUND, np.uint8)
    row = np.concatenate([part for panel in panels for part in (spacer, panel)] + [spacer], axis=1)
    shown = sorted({int(label) for each in (prediction, truth) if each is not None for label in each.labels})
    return np.concatenate([row, _legend(row.shape[1], shown, classes)])


def draw_objects(image: np.ndarray, objects: Objects, classes: Sequence[str], notes: Sequence[str] | None = None,
                 colors: Sequence[tuple[int, int, int]] | None = None) -> np.ndarray:
    """Draw masks, boxes and labels on an image.

    Args:
        image: Image of shape ``(H, W, 3)``, uint8, RGB; resized so that labels are readable.
        objects: Objects to draw.
        classes: Names of the classes.
        notes: Text after the name of each object.
        colors: RGB color of each object; by default that of its class.

    Returns:
        Figure of shape ``(H', W', 3)``, uint8, RGB.
    """
    colors = colors or [class_color(int(label)) for label in objects.labels]
    scale = np.clip(max(image.shape[:2]), _SHORTEST, _LONGEST) / max(image.shape[:2])
    canvas = rescale(image, scale)
    boxes = np.asarray(objects.boxes, np.float64).reshape(-1, 4) * scale
    order = np.argsort(-(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), kind='stable')  # largest first
    if objects.masks is not None:
        for index in order:
            _draw_mask(canvas, objects.masks[index], colors[index])
    for index in order:
        corners = [round(value) for value in boxes[index]]
        cv2.rectangle(canvas, corners[:2], corners[2:], colors[index], 2, cv2.LINE_AA)
    tags = [_tag(objects, index, classes) + (f' {notes[index]}' if notes and notes[index] else '') for index in order]
    return _draw_tags(canvas, boxes[order], tags, [colors[index] for index in order])


def _draw_mask(canvas: np.ndarray, mask: np.ndarray, color: tuple[int, int, int]) -> None:
    """Draw a mask (H, W) of the image on a canvas of another size; only the part around the mask is computed."""
    mask = np.asarray(mask)
    (left, right, columns), (top, bottom, rows) = (_spread(mask.any(axis), canvas.shape[1 - axis]) for axis in (0, 1))
    if left >= right or top >= bottom:
        return
    # linear interpolation, along one axis after the other
    soft = _blend(_blend(mask, 0, *rows), 1, *columns)
    inside = (soft >= 0.5).astype(np.uint8)
    part = canvas[top:bottom, left:right]
    tint = (0.55 * np.arange(256)[:, None] + 0.45 * np.array(color)).astype(np.uint8)
    cv2.copyTo(cv2.LUT(np.ascontiguousarray(part), tint[None]), inside, part)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, color, 1, cv2.LINE_AA, offset=(left, top))


def _spread(is_used: np.ndarray, size: int) -> tuple[int, int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return how the used part of an axis is scaled.

    Args:
        is_used: (n,) bool, whether a row or column of the mask has pixels of the object.
        size: Length of the axis after scaling.

    Returns:
        First and last position (exclusive) after scaling, and for each position between them the two positions of the
        mask that are interpolated and the weight of the second one.
    """
    count, used = len(is_used), np.flatnonzero(is_used)
    if not len(used):
        return 0, 0, (used, used, used)
    scale = size / count
    start, stop = max(0, int((used[0] - 0.5) * scale) - 1), min(size, int((used[-1] + 1.5) * scale) + 2)
    position = ((np.arange(start, stop) + 0.5) / scale - 0.5).clip(0, count - 1)
    low = position.astype(int)
    return start, stop, (low, np.minimum(low + 1, count - 1), (position - low).astype(np.float32))


def _blend(values: np.ndarray, axis: int, low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    weight = np.expand_dims(weight, 1 - axis)
    return values.take(low, axis) * (1 - weight) + values.take(high, axis) * weight


def _tag(objects: Objects, index: int, classes: Sequence[str]) -> str:
    label = int(objects.labels[index])
    name = name_of_label(label, classes)
    return name if objects.scores is None else f'{name} {objects.scores[index]:.2f}'


def _draw_tags(canvas: np.ndarray, boxes: np.ndarray, texts: Sequence[str],
               colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Draw each text on a filled rectangle at a corner of its box that hides neither another text nor a box."""
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    font, taken = load_font(15), []
    for (x1, y1, x2, y2), text, color in zip(boxes, texts, colors):
        width, height = round(draw.textlength(text, font=font)) + 8, 20
        corners = [(x1 - 1, y1 - height), (x1, y1), (x2 - width, y2 - height), (x1 - 1, y2), (x2 - width, y1 - height)]
        tags = [_move_inside(x, y, width, height, canvas.shape) for x, y in corners]
        tag = next((each for each in tags if not any(_overlap(each, other) for other in taken)
                    and not _hides_a_box(each, boxes)), None)
        if tag is None:
            continue  # no free corner: the class is shown by the color and the legend
        taken.append(tag)
        draw.rectangle(tag, fill=color)
        draw.text((tag[0] + 4, tag[1] + 1), text, font=font, fill=_text_color_on(color))
    return np.array(image)


def _move_inside(x: float, y: float, width: int, height: int, shape: tuple) -> tuple[int, int, int, int]:
    x = round(min(max(x, 0), max(shape[1] - width, 0)))
    y = round(min(max(y, 0), max(shape[0] - height, 0)))
    return x, y, x + width, y + height


def _hides_a_box(tag: tuple[int, int, int, int], boxes: np.ndarray) -> bool:
    """Whether a rectangle covers much of one of the boxes (N, 4), as texts do where objects are small and dense."""
    shared = np.minimum(boxes[:, 2:], tag[2:]) - np.maximum(boxes[:, :2], tag[:2])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return bool((shared.clip(0).prod(1) > _HIDDEN * area).any())


def _overlap(one: tuple, other: tuple) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _text_color_on(color: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = color
    return (20, 20, 20) if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else (255, 255, 255)


def _panel(image: np.ndarray, objects: Objects, classes: Sequence[str], caption: str) -> np.ndarray:
    drawn = draw_objects(image, objects, classes)
    strip = Image.new('RGB', (drawn.shape[1], 36), BACKGROUND)
    ImageDraw.Draw(strip).text((0, 7), caption, font=load_font(18), fill=TEXT_COLOR)
    return np.concatenate([np.array(strip), drawn])


def _legend(width: int, labels: Sequence[int], classes: Sequence[str]) -> np.ndarray:
    font = load_font(16)
    entries, x, y = [], 12, 8
    for label in labels:
        name = name_of_label(label, classes)
        space = 24 + round(font.getlength(name)) + 20
        if x > 12 and x + space > width:
            x, y = 12, y + 26
        entries.append((x, y, name, class_color(label)))
        x += space
    strip = Image.new('RGB', (width, y + 30), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for x, y, name, color in entries:
        draw.rectangle((x, y + 2, x + 15, y + 17), fill=color)
        draw.text((x + 22, y), name, font=font, fill=TEXT_COLOR)
    return np.array(strip)


def rescale(image: np.ndarray, scale: float) -> np.ndarray:
    """Resize an image of shape ``(H, W, C)`` by a factor; no side becomes 0."""
    size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)


def write_figure(path: Path, figure: np.ndarray) -> None:
    """Write a figure of shape ``(H, W, 3)``, uint8, RGB, with OpenCV's quality; the folder is created.

    Raises:
        UserError: The file cannot be written.
    """
    content = cv2.imencode(path.suffix, np.ascontiguousarray(figure[..., ::-1]))[1]
    write_atomically(path, lambda file: file.write(content.tobytes()))


@lru_cache(maxsize=8)
def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Load the sans-serif font shipped with matplotlib, which is the same on every machine, at ``size`` pixels."""
    import matplotlib
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'), size)
