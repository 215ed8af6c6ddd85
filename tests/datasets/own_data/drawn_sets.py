"""Data sets that the tests draw: images with rectangles, as a reader of a format returns them."""

import hashlib
from pathlib import Path

import cv2
import numpy as np

from vitdet_plugin.datasets.formats.base import SourceSet
from vitdet_plugin.datasets.own_data.machine import Machine

CLASSES = ('apple', 'Grüne Limette')
CPU = Machine(False, 8 * 2**30, 2, 'the CPU: 2 cores')


def draw_image(path: Path, seed: int, boxes=(), size: tuple[int, int] = (64, 48)) -> Path:
    """Write an image of noise, different for each seed, with a rectangle for each box."""
    random = np.random.default_rng(seed)
    # coarse noise: fingerprints of different images differ
    image = cv2.resize(random.integers(0, 160, (9, 9, 3), dtype=np.uint8), size, interpolation=cv2.INTER_NEAREST)
    for x1, y1, x2, y2 in boxes:
        cv2.rectangle(image, (int(x1), int(y1)), (int(x2) - 1, int(y2) - 1), (40, 40, 240), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return path


def drawn_set(folder: Path, count: int = 12, masks: bool = True, names='bild {:02} ä.png', split=None,
              size: tuple[int, int] = (64, 48), side: int = 16) -> SourceSet:
    """Write images with one or two objects each and return them as a data set for detection."""
    found = SourceSet('drawn', list(CLASSES))
    for index in range(count):
        boxes = [(4 + index % 5, 6, 4 + index % 5 + side, 6 + side), (30, 10, 30 + side, 10 + side)][:1 + index % 2]
        path = draw_image(folder / names.format(index), index, boxes, size)
        image = found.add_image(path, split(index) if split else None)
        for number, box in enumerate(boxes):
            x1, y1, x2, y2 = map(float, box)
            found.add_object(image, CLASSES[number], path, box=None if masks else box,
                             mask=[[x1, y1, x2, y1, x2, y2, x1, y2]] if masks else None)
    return found


def class_set(folder: Path, count: int = 6) -> SourceSet:
    """Write ``count`` images for each class in folders and return them as a data set for classification."""
    found = SourceSet('folders', list(CLASSES))
    for label, name in enumerate(CLASSES):
        for index in range(count):
            path = draw_image(folder / name / f'{index} x.png', 100 * label + index)
            found.add_image(path, label=name)
    return found


def tree_hash(folder: Path) -> str:
    """Return a hash of all names and contents below a folder."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        total.update(f'{path.relative_to(folder)}'.encode() + (path.read_bytes() if path.is_file() else b''))
    return total.hexdigest()
