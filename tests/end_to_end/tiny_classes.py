"""A small dataset of three classes of different color, with spaces and hyphens in the names."""

from pathlib import Path

import cv2
import numpy as np

CONFIG = Path(__file__).with_name('tiny_classifier.py')
COLORS = {'Fat Hen': (40, 40, 220), 'lime': (40, 200, 40), 'plum-tree': (220, 60, 40)}  # BGR
CLASSES = tuple(COLORS)


def write_tiny_classes(folder: Path, train: int = 7, val: int = 3, seed: int = 0) -> Path:
    """Write ``folder/{train,val}/<class>/<number>.png``, and unlabeled images to ``folder/new images/*.png``.

    With 3 x 7 = 21 training images, the last batch of 4 has one image.
    """
    random = np.random.default_rng(seed)
    for split, number in (('train', train), ('val', val)):
        for name, color in COLORS.items():
            (folder / split / name).mkdir(parents=True)
            for index in range(number):
                cv2.imwrite(str(folder / split / name / f'{index}.png'), _image(random, color))
    (folder / 'new images').mkdir()
    for index, color in enumerate([*COLORS.values()][::-1]):
        cv2.imwrite(str(folder / 'new images' / f'{10 - index} b.png'), _image(random, color))
    return folder


def _image(random: np.random.Generator, color: tuple) -> np.ndarray:
    height, width = (int(side) for side in random.integers(36, 60, 2))
    noise = random.integers(-30, 30, (height, width, 3))
    return np.clip(np.array(color) + noise, 0, 255).astype(np.uint8)
